"""The parts of a recipe, each measured alone in this process on one computing thread.

A part is set up once; `measure(seconds)` then works for about so long and returns units a second.
`cluster.bench.report` interleaves the parts, so that a machine that drifts drifts for all of them.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from actors.collector import Collector
from actors.env_runner import EnvRunner
from actors.environments import make_environment
from cluster.assembly import build_learner, build_shard, runner_precision
from cluster.prepare import Preparation, new_student
from common.codec import EncodedChunk, decode, encode
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.replay.rate_limiter import RateLimits
from common.weights import WeightStore
from learners.feed import FeedItem
from learners.learner import Learner

MIN_WINDOW = 16_384
"""Transitions of real play that the learner's parts work on."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something whose speed is measured."""

    name: str
    unit: str
    work: Callable[[], float]
    """Does a piece of work and returns how many units it was."""

    def measure(self, seconds: float) -> float:
        """Work for about `seconds` and return units a second."""
        units, started = 0.0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            units += self.work()
        return units / elapsed


class _Silent(InferencePolicy):
    """A policy that computes nothing: what remains of an env runner without its networks."""

    def __init__(self, spec: PolicySpec, num_rows: int) -> None:
        self.spec = spec
        value = np.zeros(num_rows, np.float32) if spec.has_value else None
        self._outputs = PolicyOutputs(np.zeros((num_rows, spec.num_actions), np.float32), value)

    def __call__(self, observations: object) -> PolicyOutputs:
        """Return zeros."""
        return self._outputs


def build_parts(preparation: Preparation, teacher: Policy) -> Iterator[Part]:
    """Set up every part of a recipe, in the order of the main road."""
    config = preparation.config
    num_envs = config.actors.num_envs_per_runner
    student = new_student(config, preparation.environment, teacher.spec)
    precision = runner_precision(config, teacher)
    acting_teacher = InferencePolicy(teacher, precision=precision)
    acting_student = InferencePolicy(student, precision=precision)

    def runner(first: InferencePolicy, second: InferencePolicy) -> EnvRunner:
        return EnvRunner(
            make_environment(config.env, num_envs=num_envs),
            teacher=first,
            student=second,
            behavior=config.behavior,
            unroll_length=config.actors.unroll_length,
            total_env_steps=config.total_env_steps,
            runner_id=0,
            incarnation=0,
            task_id=config.env.id,
            seed=config.seed,
        )

    yield _bare_environment(preparation)
    silent = runner(_Silent(teacher.spec, num_envs), _Silent(student.spec, num_envs))
    yield Part("env_runner_without_networks", "transitions", lambda: silent.sample().valid.sum())
    chunks: list[EncodedChunk] = []
    store = WeightStore()
    store.publish(build_learner(config, student, teacher.spec.dist).weights(0))
    collector = Collector(
        runner(acting_teacher, acting_student),
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

    yield Part("env_runner", "transitions", collect)
    observations = _observations(fill, num_envs)
    for name, policy in (("teacher_forward", acting_teacher), ("student_forward", acting_student)):
        yield Part(name, "observations", _forward(policy, observations))
    layouts = {"contiguous": torch.contiguous_format}
    if observations[0].ndim == 4:
        layouts["channels_last"] = torch.channels_last
    for dtype in (torch.float32, torch.bfloat16):
        for layout_name, layout in layouts.items():
            name = f"teacher_forward_{str(dtype).removeprefix('torch.')}_{layout_name}"
            yield Part(name, "observations", _plain_forward(teacher, observations, dtype, layout))
    yield from _codec_and_replay(preparation, fill)
    learner = build_learner(config, student, teacher.spec.dist)
    _fill(learner, fill)
    yield Part("training_step", "samples", _training_step(learner, config.learner.batch_size))
    yield Part("gather", "bytes", lambda: _gather(learner, config.learner.batch_size))
    size = config.learner.batch_size * int(np.prod(preparation.environment.observation.shape))
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)

    def copy_bytes() -> float:
        np.copyto(target, source)
        return size

    yield Part("memcpy", "bytes", copy_bytes)

    def publish() -> float:
        store.publish(learner.weights(store.version + 1))
        return 1

    yield Part("publish_weights", "versions", publish)


def _bare_environment(preparation: Preparation) -> Part:
    config = preparation.config
    num_envs = config.actors.num_envs_per_runner
    env = make_environment(config.env, num_envs=num_envs)
    rng = np.random.default_rng(config.seed)
    env.reset(config.seed)

    def step() -> float:
        for _ in range(8):
            env.step(rng.integers(env.spec.num_actions, size=num_envs))
        return 8 * num_envs

    return Part("environment", "transitions", step)


def _observations(chunks: list[EncodedChunk], num_envs: int) -> list[np.ndarray]:
    """Return some rows of real observations, each [num_envs, *shape]."""
    found = decode(chunks[-1]).observations
    rows = found.stacks() if hasattr(found, "stacks") else found.values
    return [np.array(row) for row in rows[:8, :num_envs]]


def _forward(policy: InferencePolicy, observations: list[np.ndarray]) -> Callable[[], float]:
    def work() -> float:
        for row in observations:
            policy(row)
        return sum(len(row) for row in observations)

    return work


def _plain_forward(
    policy: Policy, observations: list[np.ndarray], dtype: torch.dtype, layout: torch.memory_format
) -> Callable[[], float]:
    """Run the network alone, with the cast that this type and layout need."""
    network = copy.deepcopy(policy.network).to(dtype).eval()
    network.set_layout(layout)

    @torch.inference_mode()
    def work() -> float:
        for row in observations:
            network(torch.from_numpy(row).to(dtype, memory_format=layout))
        return sum(len(row) for row in observations)

    return work


def _codec_and_replay(preparation: Preparation, chunks: list[EncodedChunk]) -> Iterator[Part]:
    plain = decode(chunks[-1])
    size = chunks[-1].num_transitions
    yield Part("encode", "transitions", lambda: encode(plain).num_transitions)
    yield Part("decode", "transitions", lambda: decode(chunks[-1]).num_transitions)
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e18)
    shard = build_shard(preparation.config, limits)
    numbers = iter(range(10**12))

    def insert() -> float:
        identity = chunks[-1].chunk_id._replace(sequence=next(numbers))
        shard.insert(replace(chunks[-1], chunk_id=identity))
        return size

    yield Part("replay_insert", "transitions", insert)


def _fill(learner: Learner, chunks: list[EncodedChunk]) -> None:
    for number, chunk in enumerate(chunks):
        item = FeedItem(epoch="bench", granted=0, first_chunk=number, chunks=[decode(chunk)])
        learner.receive(item)


def _training_step(learner: Learner, batch_size: int) -> Callable[[], float]:
    def work() -> float:
        item = FeedItem(epoch="bench", granted=batch_size, first_chunk=0, chunks=[])
        learner.receive(item)
        learner.step()
        return batch_size

    return work


def _gather(learner: Learner, batch_size: int) -> float:
    batch = learner.draw(batch_size)
    return batch.observations.numel() * batch.observations.element_size()
