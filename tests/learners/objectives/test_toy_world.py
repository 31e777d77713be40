"""Terms that look along time, at work."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from common.networks import PolicyNetwork
from learners.objectives import ObjectiveConfig
from tests.learners.objectives.toy_world import (
    NUM_STATES,
    TERMINATES,
    TRUNCATES,
    ToyWorld,
    student_for_toys,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "expected_entropy": {"discount": 0.5},
    "n_distill": {},
    "ppd": {},
    "kickstart": {},
    "qdagger": {},
}


def learn(
    tree: dict[str, Any], world: ToyWorld, *, num_updates: int, at_random: bool = False
) -> PolicyNetwork:
    objective = ObjectiveConfig.model_validate(tree)
    network = student_for_toys(has_value=objective.needs_value)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    target = None
    for update in range(num_updates):
        if objective.target_interval is not None and update % 20 == 0:
            target = copy.deepcopy(network)
        batch = world.play(network, target=target, at_random=at_random)
        optimizer.zero_grad()
        objective(batch, network(batch.observations)).loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


def greedy(network: PolicyNetwork, world: ToyWorld) -> list[int]:
    actions: list[int] = network(world.observe()).dist_inputs.argmax(-1).tolist()
    return actions


def test_every_term_over_time_is_tested():
    named = ObjectiveConfig.model_fields
    objectives = [ObjectiveConfig.model_validate({name: {}}) for name in named]
    assert {name for objective in objectives for name in objective.over_time} == SETTINGS.keys()


@pytest.mark.parametrize(("name", "settings"), SETTINGS.items())
def test_a_small_student_reaches_its_teacher(name, settings):
    world = ToyWorld(seed=0)
    assert greedy(student_for_toys(has_value=True), world) != world.best.tolist()
    network = learn({name: settings}, world, num_updates=150, at_random=name == "qdagger")
    assert greedy(network, world) == world.best.tolist()


@pytest.mark.parametrize("name", ["ppd", "kickstart"])
def test_a_policy_learns_from_rewards_where_the_teacher_weighs_nothing(name):
    world = ToyWorld(seed=1)
    world.labels = np.zeros_like(world.labels)
    settings = {"teacher_weight": 0.0, "discount": 0.5}
    network = learn({name: settings}, world, num_updates=300)
    values = world.best_values(0.5)
    for state, action in enumerate(greedy(network, world)):
        assert values[state, action] == pytest.approx(values[state].max(), abs=0.15)
    assert len(set(world.best.tolist())) > 1


def test_q_values_become_those_of_the_best_policy_where_the_teacher_weighs_nothing():
    world = ToyWorld(seed=2)
    settings = {"teacher_weight": 0.0, "discount": 0.7, "num_steps": 1, "huber_delta": 100.0}
    network = learn({"qdagger": settings}, world, num_updates=800, at_random=True)
    found = network(world.observe()).dist_inputs.numpy()
    np.testing.assert_allclose(found, world.best_values(0.7), atol=0.3)
    assert np.ptp(world.best_values(0.7)) > 0.9


def test_a_critic_learns_what_the_students_paths_cost():
    """Expected entropy: V_S becomes Σ γ^k log p of the actions to come, here by hand."""
    world, discount = ToyWorld(seed=3), 0.8
    term = ObjectiveConfig.model_validate({"expected_entropy": {"discount": discount}})
    network = student_for_toys(has_value=True)
    assert network.value is not None
    optimizer = torch.optim.Adam(network.value.parameters(), lr=0.1)
    for update in range(1_200):  # of the critic alone: who acts stays as it is
        for group in optimizer.param_groups:
            group["lr"] = 0.1 if update < 600 else 0.003
        batch = world.play(network)
        optimizer.zero_grad()
        term(batch, network(batch.observations)).loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    output = network(world.observe())
    assert output.value is not None
    pi = output.dist_inputs.softmax(-1).double().numpy()
    log_p = torch.from_numpy(world.labels).log_softmax(-1).numpy()
    own = (pi * log_p).sum(-1)
    # A truncated row counts as its own value, so it leaves no trace: the chance of a next row is
    # that of going on among rows that go on or terminate.
    goes_on = 1 - TERMINATES / (1 - (1 - TERMINATES) * TRUNCATES)
    move = np.zeros((NUM_STATES, NUM_STATES))
    for state in range(NUM_STATES):
        for action, after in enumerate(world.next_state[state]):
            move[state, after] += pi[state, action]
    wanted = np.linalg.solve(np.eye(NUM_STATES) - goes_on * discount * move, goes_on * move @ own)
    np.testing.assert_allclose(output.value.numpy(), wanted, atol=0.3)
