import numpy as np
import pytest
import torch

from actors.environments import make_environment
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.evaluator import evaluate, state_values
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy
from common.policies.spec import ActingSpec
from tests.builders import NUM_ACTIONS, Countdown, make_policy, make_spec

GREEDY = ActingSpec()


def shifted(policy: Policy, layer: str, amount: float) -> Policy:
    """Return the policy with a constant added to one output layer's bias."""
    with torch.no_grad():
        getattr(policy.network, layer).bias += amount
    return policy


def valued(seed: int = 1) -> Policy:
    return make_policy(seed=seed, has_value=True)


@pytest.mark.parametrize(("num_episodes", "each"), [(3, 1), (4, 2), (6, 2), (1, 1)])
def test_every_copy_plays_the_same_number_of_episodes(num_episodes: int, each: int):
    result = evaluate(Countdown(2, 3, 7), None, acting=GREEDY, num_episodes=num_episodes, seed=0)
    assert sorted(result.lengths) == sorted([2, 3, 7] * each)
    assert sorted(result.returns) == sorted([2.0, 6.0, 21.0] * each)


def test_returns_and_lengths_belong_together():
    result = evaluate(Countdown(2, 3, 7), None, acting=GREEDY, num_episodes=6, seed=0)
    by_length = {2: 2.0, 3: 6.0, 7: 21.0}
    assert [by_length[length] for length in result.lengths] == list(result.returns)


def test_a_policy_agrees_with_itself_in_every_state_of_the_episodes():
    policy = InferencePolicy(valued())
    result = evaluate(
        Countdown(2, 3, 7), policy, acting=GREEDY, num_episodes=3, seed=0, reference=policy
    )
    assert result.num_compared == sum(result.lengths) == 12
    assert result.greedy_agreement == 1.0
    assert result.value_error == 0.0


def test_opposite_policies_never_agree():
    policy, opposite = make_policy(seed=1), make_policy(seed=1)
    with torch.no_grad():
        opposite.network.head.weight *= -1
        opposite.network.head.bias *= -1
    result = evaluate(
        Countdown(4, 5),
        InferencePolicy(policy),
        acting=GREEDY,
        num_episodes=4,
        seed=0,
        reference=InferencePolicy(opposite),
    )
    assert result.greedy_agreement == 0.0


def test_agreement_is_the_share_of_the_states_played():
    env = Countdown(4, 5)
    policy, reference = InferencePolicy(make_policy(seed=1)), InferencePolicy(make_policy(seed=4))
    result = evaluate(env, policy, acting=GREEDY, num_episodes=4, seed=0, reference=reference)
    shown = np.concatenate([rows[:1] for rows in env.shown[:10]] + [r[1:] for r in env.shown[:12]])
    live = shown[shown[:, 1] > 0]
    live = live[live[:, 2] < 2]
    same = policy(live).dist_inputs.argmax(-1) == reference(live).dist_inputs.argmax(-1)
    assert result.num_compared == len(live) == 2 * 4 + 2 * 5
    assert result.greedy_agreement == pytest.approx(same.mean())
    assert 0.0 < same.mean() < 1.0


def test_values_are_compared_where_both_policies_have_them():
    env = Countdown(4, 5)
    policy, reference = shifted(valued(), "value", 0.5), valued()
    result = evaluate(
        env,
        InferencePolicy(policy),
        acting=GREEDY,
        num_episodes=2,
        seed=0,
        reference=InferencePolicy(reference),
    )
    assert result.value_error == pytest.approx(0.5, abs=1e-5)
    live = np.concatenate([rows[rows[:, 1] > 0] for rows in env.shown[:6]])
    live = live[live[:, 2] == 0]
    values = InferencePolicy(reference)(live).value
    assert result.value_scale == pytest.approx(float(values.std()), rel=1e-4)
    without = InferencePolicy(make_policy(seed=1))
    result = evaluate(
        Countdown(4, 5), without, acting=GREEDY, num_episodes=2, seed=0, reference=without
    )
    assert (result.value_error, result.value_scale) == (None, None)
    assert result.greedy_agreement == 1.0


def test_the_value_of_a_q_policy_is_its_best_q():
    outputs = PolicyOutputs(np.array([[1.0, 3.0, 2.0]], np.float32), np.array([9.0], np.float32))
    assert state_values(make_spec(dist="q_values"), outputs).tolist() == [3.0]
    assert state_values(make_spec(has_value=True), outputs).tolist() == [9.0]
    assert state_values(make_spec(), outputs._replace(value=None)) is None


def test_without_a_reference_nothing_is_compared():
    result = evaluate(
        Countdown(2), InferencePolicy(valued()), acting=GREEDY, num_episodes=1, seed=0
    )
    assert (result.num_compared, result.greedy_agreement, result.value_error) == (0, None, None)


def test_the_random_policy_takes_every_action_alike():
    env = Countdown(*[50] * 20)
    evaluate(env, None, acting=GREEDY, num_episodes=20, seed=0)
    counts = np.bincount(np.concatenate(env.actions), minlength=NUM_ACTIONS)
    assert counts.sum() == 1_000
    np.testing.assert_allclose(counts, 1_000 / 3, atol=60)  # some four standard deviations


def test_greedy_acting_takes_the_best_action_and_epsilon_explores():
    policy = InferencePolicy(make_policy(seed=1))

    def share_of_best(acting: ActingSpec) -> float:
        env = Countdown(*[50] * 20)
        evaluate(env, policy, acting=acting, num_episodes=20, seed=0)
        rows = zip(env.shown, env.actions, strict=False)
        return float(np.mean([policy(o).dist_inputs.argmax(-1) == a for o, a in rows]))

    assert share_of_best(GREEDY) == 1.0
    assert share_of_best(ActingSpec(epsilon=0.6)) == pytest.approx(0.6, abs=0.07)


def test_the_seed_decides():
    def actions(seed: int) -> list[int]:
        env = Countdown(6, 6)
        evaluate(env, None, acting=GREEDY, num_episodes=2, seed=seed)
        return [*env.seeds, *np.concatenate(env.actions).tolist()]

    assert actions(3) == actions(3)
    assert actions(3) != actions(4)


def test_as_many_states_are_kept_as_asked_for():
    env = Countdown(9, 9, 9)
    result = evaluate(env, None, acting=GREEDY, num_episodes=3, seed=0, num_observations=10)
    assert result.observations.shape == (10, 5)
    shown = {tuple(row) for rows in env.shown for row in rows}
    assert {tuple(row) for row in result.observations} <= shown
    assert len({tuple(row) for row in result.observations}) == 10
    few = evaluate(Countdown(2), None, acting=GREEDY, num_episodes=1, seed=0, num_observations=10)
    assert len(few.observations) == 2


def test_the_states_kept_are_drawn_from_the_whole_of_the_episodes():
    steps_to_go = [
        int(row[1])
        for seed in range(60)
        for row in evaluate(
            Countdown(40), None, acting=GREEDY, num_episodes=1, seed=seed, num_observations=10
        ).observations
    ]
    counts = np.histogram(steps_to_go, bins=4, range=(1, 40))[0]
    np.testing.assert_allclose(counts, 150, atol=45)  # some four standard deviations


def test_a_stop_returns_what_was_finished():
    env = Countdown(2, 3, 7)
    result = evaluate(
        env,
        None,
        acting=GREEDY,
        num_episodes=3,
        seed=0,
        should_stop=lambda: len(env.actions) >= 4,
    )
    assert result.lengths == (2, 3)


def test_cartpole_is_played_to_the_end():
    env = make_environment(GymnasiumConfig(id="CartPole-v1"), num_envs=3)
    result = evaluate(env, None, acting=GREEDY, num_episodes=6, seed=0)
    assert list(result.returns) == [float(length) for length in result.lengths]
    assert all(8 <= length < 200 for length in result.lengths)
    assert len(result.returns) == 6


def test_a_game_of_pong_is_played_in_full():
    """A random player loses one to 21 points, however long it takes."""
    env = make_environment(AtariConfig(id="pong", frame_size=16, frame_skip=8), num_envs=1)
    result = evaluate(env, None, acting=GREEDY, num_episodes=1, seed=0)
    (episode_return,) = result.returns
    assert -21.0 <= episode_return < -10.0
    assert result.lengths[0] > 300
