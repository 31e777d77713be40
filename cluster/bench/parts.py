"""The parts of a recipe, each measured alone in this process on one computing thread.

A part is set up once and then works in slices of time, in turn with the others, so that a machine
that drifts drifts for all of them.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from actors.collector import Collector
from actors.env_runner import EnvRunner
from actors.environments import make_environment
from cluster.assembly import build_inference, build_learner, build_shard
from cluster.compute import inference_forms, resolve_compute, training_forms
from cluster.prepare import Preparation, new_student
from cluster.recipe.config import RunConfig
from common.codec import EncodedChunk, decode, encode
from common.policies.actions import draw_actions
from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.policies.spec import PolicySpec
from common.replay.rate_limiter import RateLimits
from common.weights import WeightStore, weights_of
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner

MIN_WINDOW = 16_384
"""Transitions of real play that the learner's parts work on."""

SLICE_S = 0.1
"""Seconds that a part works before it is another's turn."""

ORDER_SEED = 0
"""Of the orders in which parts take their turns."""

STEPS_APART = 2
"""Steps between two rows of real observations."""

AUTO = {"precision": "auto", "layout": "auto"}


@dataclass(frozen=True, slots=True)
class Part:
    """Something whose speed is measured."""

    name: str
    work: Callable[[], float]
    """Does a piece of work and returns how many units it was."""
    group: str = ""
    """Parts of a group are compared, so they take their turns one right after another."""


def measure_in_turn(parts: list[Part], seconds: float) -> dict[str, float]:
    """Let the parts work in turn, a slice of time each, and return units a second by name.

    A core may change its speed from one second to the next, so the parts of a group stay together.
    Every turn has an order of its own, of the groups and within each: what ran before leaves
    caches and clock rates behind, and no part shall have the same neighbour each time.

    Args:
        parts: what to measure.
        seconds: that each part works in all, at least a piece of work.
    """
    units = dict.fromkeys((part.name for part in parts), 0.0)
    spent = dict.fromkeys(units, 0.0)
    order = random.Random(ORDER_SEED)
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.group or part.name, []).append(part)
    while waiting := [g for g in groups.values() if any(spent[p.name] < seconds for p in g)]:
        order.shuffle(waiting)
        for group in waiting:
            order.shuffle(group)
            for part in group:
                done, elapsed = _turn(part)
                units[part.name] += done
                spent[part.name] += elapsed
    return {name: units[name] / spent[name] for name in units}


def _turn(part: Part) -> tuple[float, float]:
    """Let a part work for a slice of time; return units and seconds.

    The part before left its own data in the caches, so a first piece of work does not count, unless
    it is a slice long itself.
    """
    started = time.perf_counter()
    done = part.work()
    if (elapsed := time.perf_counter() - started) >= SLICE_S:
        return done, elapsed
    done, started = 0.0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SLICE_S:
        done += part.work()
    return done, elapsed


class _Silent(InferencePolicy):
    """A policy that computes nothing: what remains of an env runner without its networks."""

    def __init__(self, spec: PolicySpec, num_rows: int) -> None:
        self.spec = spec
        value = np.zeros(num_rows, np.float32) if spec.has_value else None
        self._outputs = PolicyOutputs(np.zeros((num_rows, spec.num_dist_inputs), np.float32), value)

    @property
    def memory_shape(self) -> None:
        """None: it remembers nothing."""
        return None

    def __call__(self, observations: object) -> PolicyOutputs:
        """Return zeros."""
        return self._outputs


class Resolved(NamedTuple):
    """A recipe in which nothing is `auto`, and what it was resolved on."""

    preparation: Preparation
    observations: Observations
    found: tuple[str, ...]
    """What was found, in words."""


def resolve_on_play(preparation: Preparation, teacher: Policy, count: int = 4_000) -> Resolved:
    """Resolve what a recipe leaves `auto`, as a run does, on `count` observations of play."""
    observations = real_observations(preparation, teacher, count)
    student = new_student(preparation.config, preparation.environment, teacher.spec)
    config, found = resolve_compute(preparation.config, teacher, student, observations)
    return Resolved(preparation.with_config(config), observations, found)


def real_observations(preparation: Preparation, teacher: Policy, count: int) -> Observations:
    """Return observations [count, *shape] of the teacher's own play, with some random actions."""
    config = preparation.config
    env = make_environment(config.env, num_envs=config.actors.num_envs_per_runner)
    policy, rng = InferencePolicy(teacher), np.random.default_rng(config.seed)
    observations = env.reset(config.seed)
    kept: list[Observations] = []
    while sum(map(len, kept)) < count:
        kept.append(observations)
        for _ in range(STEPS_APART):
            outputs = policy(observations).dist_inputs
            drawn = draw_actions(teacher.spec, outputs, mode="greedy", epsilon=0.05, rng=rng)
            observations = env.step(drawn.actions).observations
    env.close()
    return np.concatenate(kept)[:count]


def build_parts(
    preparation: Preparation, teacher: Policy, observations: Observations
) -> Iterator[Part]:
    """Set up every part of a recipe, in the order of the main road.

    Args:
        preparation: with a recipe in which nothing is `auto`.
        teacher: its teacher.
        observations: [M, *shape] of real play.
    """
    config = preparation.config
    num_envs = config.actors.num_envs_per_runner
    student = new_student(config, preparation.environment, teacher.spec)
    acting_teacher = build_inference(config, teacher, refine_below=config.actors.refine_below)
    acting_student = build_inference(config, student, inputs=acting_teacher.shared_inputs())
    silent = (_Silent(teacher.spec, num_envs), _Silent(student.spec, num_envs))
    yield _bare_environment(config, student.spec)
    without = _runner(config, *silent)
    yield Part("env_runner_without_networks", lambda: without.sample().valid.sum(), "collecting")
    chunks: list[EncodedChunk] = []
    store = WeightStore()
    store.publish(weights_of(student.network, version=0, learner_steps=0, env_steps=0))
    collector = Collector(
        _runner(config, acting_teacher, acting_student),
        pull=store.pull_if_newer,
        insert=chunks.append,
        runner_id=0,
        incarnation=0,
    )
    while sum(chunk.num_transitions for chunk in chunks) < MIN_WINDOW:
        collector.run_once()
    fill = list(chunks)

    def collect() -> float:
        chunks.clear()
        collector.run_once()
        return chunks[0].num_transitions

    yield Part("env_runner", collect)
    batches = np.resize(observations, (8, num_envs, *observations.shape[1:]))
    yield Part("teacher_forward", _forward(acting_teacher, batches), "inference")
    yield Part("student_forward", _forward(acting_student, batches))
    for form in inference_forms(config.actors.model_copy(update=AUTO), teacher, observations):
        policy = form.policy(teacher)
        yield Part(f"teacher_forward {form}", _forward(policy, batches), "inference")
    yield from _codec_and_replay(preparation, fill)
    yield from _training(config, student, teacher, fill)


def _runner(config: RunConfig, teacher: InferencePolicy, student: InferencePolicy) -> EnvRunner:
    return EnvRunner(
        make_environment(config.env, num_envs=config.actors.num_envs_per_runner),
        teacher=teacher,
        student=student,
        behavior=config.behavior,
        unroll_length=config.actors.unroll_length,
        total_env_steps=config.total_env_steps,
        runner_id=0,
        incarnation=0,
        task_id=config.task_name,
        seed=config.seed,
    )


def _bare_environment(config: RunConfig, student: PolicySpec) -> Part:
    """Return the environment alone, played as the silent student plays: what is played in a game
    decides what it costs (Pong with a random action in fifty a fortieth more than without)."""
    num_envs, unroll_length = config.actors.num_envs_per_runner, config.actors.unroll_length
    env = make_environment(config.env, num_envs=num_envs)
    env.reset(config.seed)
    drawn = draw_actions(
        student,
        np.zeros((unroll_length * num_envs, student.num_dist_inputs), np.float32),
        mode=student.acting.mode,
        epsilon=config.behavior.student_epsilon,
        noise=config.behavior.action_noise,
        rng=np.random.default_rng(config.seed),
    )
    rows = np.split(drawn.actions, unroll_length)

    def step() -> float:
        for actions in rows:
            env.step(actions)
        return unroll_length * num_envs

    return Part("environment", step, "collecting")


def _forward(policy: InferencePolicy, batches: Observations) -> Callable[[], float]:
    rows = list(batches)

    def work() -> float:
        for row in rows:
            policy(row)
        return float(len(rows) * len(rows[0]))

    return work


def _codec_and_replay(preparation: Preparation, chunks: list[EncodedChunk]) -> Iterator[Part]:
    plain = decode(chunks[-1])
    size = chunks[-1].num_transitions
    yield Part("encode", lambda: encode(plain).num_transitions)
    yield Part("decode", lambda: decode(chunks[-1]).num_transitions)
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e18)
    shard = build_shard(preparation.config, limits)
    numbers = iter(range(10**12))

    def insert() -> float:
        identity = chunks[-1].chunk_id._replace(sequence=next(numbers))
        shard.insert(replace(chunks[-1], chunk_id=identity))
        return size

    yield Part("replay_insert", insert)


def _training(
    config: RunConfig, student: Policy, teacher: Policy, chunks: list[EncodedChunk]
) -> Iterator[Part]:
    """Yield the learner's step, the same in every form to compare with, and its gather."""
    size = config.learner.batch_size

    def filled(changes: LearnerConfig) -> Learner:
        changed = config.model_copy(update={"learner": changes})
        trained = policy_from_bytes(*policy_to_bytes(student))
        learner = build_learner(changed, trained, (teacher.spec.dist,), teacher=teacher)
        for chunk in chunks:
            learner.receive(FeedItem(granted=0, chunks=[decode(chunk)]))
        return learner

    def step(learner: Learner) -> Callable[[], float]:
        def work() -> float:
            learner.step()
            return size

        return work

    learner = filled(config.learner)
    yield Part("training_step", step(learner), "training")
    auto = config.learner.model_copy(update={"micro_batch_size": "auto", "layout": "auto"})
    for name, candidate in training_forms(auto, student).items():
        yield Part(f"training_step {name}", step(filled(candidate)), "training")
    batch = learner.gather(learner.draw(size).rows).observations
    moved = batch.numel() * batch.element_size()
    # As much memory as the planes of the window's transitions take, so that both read from afar.
    memory = batch.repeat(max(1, MIN_WINDOW // (4 * size)), *([1] * (batch.ndim - 1)))
    places = itertools.cycle(torch.split(memory, size))

    def gather() -> float:
        learner.gather(learner.draw(size).rows)
        return moved

    def copy_bytes() -> float:
        next(places).clone()
        return moved

    yield Part("gather", gather, "copying")
    yield Part("memcpy", copy_bytes, "copying")
    store = WeightStore()

    def publish() -> float:
        store.publish(learner.weights(store.version + 1))
        return 1

    yield Part("publish_weights", publish)
