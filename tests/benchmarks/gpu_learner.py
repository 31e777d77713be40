"""The learner on a GPU beside the bare training step on data that already lies on the device.

    python -m tests.benchmarks.gpu_learner                 # batch 16,384 on the first GPU
    python -m tests.benchmarks.gpu_learner --device cpu --batch-size 256 --rounds 1   # how it runs

Aim (measure.md): learner ÷ bare step ≥ .9 at batch 16,384. Both sides train the 113k student on
84 × 84 × 4 frames in bfloat16; the learner also receives a new chunk for every `--chunk` samples,
gathers its batches from the window, computes metrics and takes its decisions; the bare step has one
batch of floats ready in every layout and takes the fastest. In turn, medians.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from common.codec import decode, encode
from common.frames import FrameObservations
from common.networks.inputs import Layout, cast_frames, cut_stacks
from common.policies.policy import new_policy
from common.policies.spec import PolicySpec
from common.trajectory import ChunkId, TrajectoryChunk, labelled_chunk
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig

ACTIONS, STACK, SIZE = 6, 4, 84
SPEC = PolicySpec.model_validate(
    {
        "name": "student",
        "network": {"name": "nature_cnn", "size": "113k"},
        "observation": {"shape": (STACK, SIZE, SIZE), "dtype": "uint8", "scale": 1 / 255},
        "num_actions": ACTIONS,
    }
)
OBJECTIVE = ObjectiveConfig.model_validate({"kl": {"temperature": 1.0}})


def random_chunk(rng: np.random.Generator, num_steps: int, num_envs: int) -> TrajectoryChunk:
    """Return a chunk of noise, stored as play is: each plane once."""
    per_env = num_steps + STACK - 1
    planes = rng.integers(256, size=(num_envs * per_env, SIZE, SIZE), dtype=np.uint8)
    starts = np.arange(num_envs, dtype=np.int32) * per_env
    last = starts + np.arange(num_steps, dtype=np.int32)[:, None] + STACK - 1
    labels = rng.normal(size=(num_steps, num_envs, ACTIONS)).astype(np.float16)
    return labelled_chunk(FrameObservations(planes=planes, last_plane=last, stack=STACK), labels)


def learner_step(args: argparse.Namespace, layout: Layout, compiled: bool) -> Callable[[], None]:
    """Return a call that feeds and trains the product's learner for one batch."""
    device, rng = torch.device(args.device), np.random.default_rng(0)
    config = LearnerConfig(
        batch_size=args.batch_size,
        micro_batch_size=args.batch_size,
        layout=layout,
        precision="bfloat16",
        compile=compiled,
    )
    learner = Learner(
        student=new_policy(SPEC, seed=0),
        teacher_dists=("logits",),
        objective=OBJECTIVE,
        config=config,
        window_capacity=args.window,
        total_env_steps=10**12,
        seed=0,
        device=device,
    )
    chunk = decode(encode(random_chunk(rng, 64, args.chunk // 64)))

    size, numbers = chunk.num_transitions, itertools.count()

    def receive() -> None:
        number = next(numbers)
        new = replace(chunk, chunk_id=ChunkId(0, 0, number), steps_before=number * size)
        learner.receive(FeedItem(granted=0, chunks=[new]))

    for _ in range(args.window // args.chunk):
        receive()

    def call() -> None:
        learner.step()
        while learner.env_steps < args.window + learner.samples:
            receive()

    return call


def bare_step(args: argparse.Namespace, layout: Layout) -> Callable[[], None]:
    """Return a call that trains on one batch of floats that lies on the device."""
    device = torch.device(args.device)
    policy = new_policy(SPEC, seed=0)
    network = policy.network.to(device).train()
    network.set_layout(layout)
    rng = np.random.default_rng(1)
    frames = rng.integers(256, size=(args.batch_size, STACK, SIZE, SIZE), dtype=np.uint8)
    if layout == "blocks":
        assert network.block is not None
        frames = cut_stacks(frames, network.block)
    inputs = cast_frames(torch.from_numpy(frames).to(device), torch.bfloat16, layout)
    batch = DistillBatch(
        observations=inputs,
        actions=torch.zeros(args.batch_size, dtype=torch.int64, device=device),
        rewards=torch.zeros(args.batch_size, device=device),
        teacher_dist_inputs=torch.randn(args.batch_size, ACTIONS, device=device),
        teacher_dist="logits",
        teacher_value=None,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            output = network(inputs, input_scale=1 / 255)
        value = OBJECTIVE(batch, output._replace(dist_inputs=output.dist_inputs.float()))
        value.loss.backward()
        optimizer.step()

    return call


def measure(call: Callable[[], None], args: argparse.Namespace) -> float:
    """Return samples a second."""

    def wait() -> None:
        if args.device != "cpu":
            torch.cuda.synchronize()

    call()
    wait()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < args.seconds:
        call()
        wait()
        steps += 1
    return steps * args.batch_size / (time.perf_counter() - started)


def main() -> None:
    """Measure in turn and print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--chunk", type=int, default=2_048)
    parser.add_argument("--window", type=int, default=65_536)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sides: dict[str, Callable[[], None]] = {}
    for layout in new_policy(SPEC, seed=0).network.layouts():
        sides[f"bare {layout}"] = bare_step(args, layout)
        sides[f"learner {layout}"] = learner_step(args, layout, compiled=False)
        if args.compile:
            sides[f"learner {layout}, compiled"] = learner_step(args, layout, compiled=True)
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, call in sides.items():
            speeds[name].append(measure(call, args))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        print(f"{name:32} {median:12,.0f} samples/s")
    best = {
        side: max(median for name, median in medians.items() if name.startswith(side))
        for side in ("bare", "learner")
    }
    print(f"learner ÷ bare step: {best['learner'] / best['bare']:.3f}")


if __name__ == "__main__":
    main()
