"""A recurrent teacher: its return by our loader, and how near a student without memory comes.

    python -m tests.benchmarks.recurrent_teacher --teacher PATH --games 10
    python -m tests.benchmarks.recurrent_teacher --teacher PATH --run-dir DIR --seconds 150

The first plays full games of the teacher, by what it sees. The second distils the recipe
(`deploy/recipes/pong_gru.toml`) in one process for so many seconds, and goes on from the newest
checkpoint in DIR where there is one; `kl` and `agreement` compare the student with its teacher in
states that only the teacher played, on other seeds than in training, at the recipe's temperature:
the student looks at 84 × 84 stacks there, the teacher at its own frames of the same games. Beside
them stands the KL of the best answer that looks at nothing, the teacher's mean distribution.
`--student-games` lets the student play in the end.
"""

import argparse
import json
import math
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from actors.behavior import TeacherDriven
from actors.evaluator import EvaluationResult
from cluster.assembly import build_collector
from cluster.evaluation import play_policy, play_teacher
from cluster.local_backend import LocalBackend
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig, load_recipe
from common.codec import EncodedChunk, decode
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.trajectory import TrajectoryChunk
from learners.held_out import HeldOut, kl_temperatures, score_held_out

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "deploy" / "recipes" / "pong_gru.toml"
NAME = "pong-a3cgru-babya3c"
TEACHER = ROOT.parent / "shared" / "teachers" / NAME / f"{NAME}.safetensors"
HELD_OUT_SEED = 1_000_000
HELD_OUT_CHUNKS = 8
"""Of 32 env copies and 64 steps, far enough apart that they are of all parts of a game."""
APART = 4


def held_out_chunks(preparation: Preparation, teacher: Policy) -> list[TrajectoryChunk]:
    """Return every fourth chunk of what the teacher plays without exploration."""
    changes = {"behavior": TeacherDriven(teacher_epsilon=0.0), "seed": HELD_OUT_SEED}
    chunks: list[EncodedChunk] = []
    collector = build_collector(
        preparation.config.model_copy(update=changes),
        teacher=InferencePolicy(teacher),
        student=preparation.new_student(teacher),
        runner_id=0,
        incarnation=0,
        pull=lambda version: None,
        insert=chunks.append,
    )
    for _ in range(HELD_OUT_CHUNKS * APART):
        collector.run_once()
    collector.close()
    return [decode(chunk) for chunk in chunks[APART - 1 :: APART]]


def score(config: RunConfig, student: Policy, chunks: list[TrajectoryChunk]) -> HeldOut:
    """Compare a student with the labels of chunks."""
    return score_held_out(
        student, chunks, teacher_dist="logits", objective=config.objective, num_observations=1
    )


def kl_of_a_constant(config: RunConfig, chunks: list[TrajectoryChunk]) -> float:
    """Return the mean KL(p‖p̄) of the teacher's distributions p and their mean p̄."""
    temperature, _ = kl_temperatures(config.objective, "logits", "logits")
    labels = np.concatenate([chunk.labels[chunk.valid].astype(np.float64) for chunk in chunks])
    logs = labels / temperature
    logs -= np.logaddexp.reduce(logs, axis=-1, keepdims=True)
    p = np.exp(logs)
    return float((p * (logs - np.log(p.mean(0)))).sum(-1).mean())


def distil(
    preparation: Preparation, teacher: Policy, folder: Path, seconds: float
) -> tuple[Policy, int]:
    """Distil for so many seconds; return the student, and how many transitions it has had."""
    session = LocalBackend().distil(preparation, teacher, folder / "checkpoints")
    started, env_steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        env_steps = session.poll().trainer.env_steps
        if env_steps >= preparation.config.total_env_steps:
            break
    return session.finish(), env_steps


def told(who: str, result: EvaluationResult) -> dict[str, float]:
    """Print and return what a policy's games gave."""
    returns = result.returns
    print(f"{who}: {mean(returns):.2f} ± {stdev(returns):.2f} in {len(returns)} games: {returns}")
    return {"mean_return": mean(returns), "std": stdev(returns), "games": len(returns)}


def main() -> None:
    """Play, or distil for a while."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", type=Path, default=TEACHER)
    parser.add_argument("--games", type=int, default=0)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--student-games", type=int, default=0)
    parser.add_argument("--env-steps", type=int, default=200_000)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    overrides = [f"teacher.path={args.teacher.resolve()}", f"total_env_steps={args.env_steps}"]
    overrides += ["actors.num_env_runners=1", "evaluation.num_observations=1"]
    overrides += [f"evaluation.num_episodes={max(2, args.games or args.student_games)}"]
    config = load_recipe(RECIPE, overrides + args.overrides)
    preparation = prepare(config, num_cpus=math.inf, num_gpus=0)
    config, teacher, backend = preparation.config, preparation.teacher, LocalBackend()
    assert teacher is not None
    figures: dict[str, Any] = {}
    if args.games:
        figures["teacher"] = told("teacher", play_teacher(config, backend, teacher))
    if args.run_dir is not None:
        chunks = held_out_chunks(preparation, teacher)
        before = score(config, preparation.new_student(teacher), chunks)
        figures["kl_of_a_constant"] = kl_of_a_constant(config, chunks)
        print(f"the teacher's mean distribution: KL {figures['kl_of_a_constant']:.4f}")
        started = time.monotonic()
        student, env_steps = distil(preparation, teacher, args.run_dir, args.seconds)
        figures |= {"env_steps": env_steps, "seconds": time.monotonic() - started}
        for name, found in (("before", before), ("after", score(config, student, chunks))):
            kl, same = found.likeness.kl, found.likeness.greedy_agreement
            assert kl is not None
            assert same is not None
            figures[name] = {"kl": kl, "agreement": same, "states": found.transitions}
            steps = 0 if name == "before" else env_steps
            print(f"{steps:,} env steps: KL {kl:.4f}, same greedy action {100 * same:.1f} %")
        if args.student_games:
            played = play_policy(config, backend, student, reference=teacher)
            figures["student"] = told("student", played) | {"agreement": played.greedy_agreement}
            print(f"same greedy action in the student's own play: {played.greedy_agreement}")
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
