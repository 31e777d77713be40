"""Which term brings a student how far: CartPole and LunarLander, from the SB3 zoo's teachers.

    python -m tests.benchmarks.objectives --teachers ../shared/teachers/sb3-zoo

Every term distils the same student with the product itself, `stillhouse run --local`, from the
recipe `lunarlander.toml` with the settings below; then student, teacher and a random policy play
`--episodes` full games. Terms that look along time train on the student's own fresh play and leave
it sampling its actions; its teacher acts greedily. `--workers` runs go on beside each other, each
on one core.

Prints a table, one row an environment and term; ends with exit code 1 where a share is below .95.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.commands import ROOT

RECIPE = ROOT / "deploy" / "recipes" / "lunarlander.toml"
PROGRAM = (sys.executable, "-m", "cluster", "run", "--local")
AIM = 0.95

OWN_FRESH_PLAY = (
    "behavior.name='student'",
    "behavior.student_epsilon=0.0",
    "actors.num_env_runners=1",
    "replay.capacity=4_096",
    "replay.window=2_048",
    "replay.revisits=0",
    "replay.min_size_to_sample=1_024",
    "replay.samples_per_insert=4.0",
    "learner.sequence_length=32",
    "learner.batch_size=512",
    "learner.publish_interval_steps=2",
    "student.network.hidden=[64, 64]",
)
"""For terms that look along the student's own paths."""

MANY_STEPS = ("student.network.hidden=[128, 128]", "replay.samples_per_insert=32.0")
"""For Q-values, whose differences are small beside their size."""

SEQUENCES = ("learner.sequence_length=8", "student.network.hidden=[64, 64]")


class Term(NamedTuple):
    """A term and what its recipe needs."""

    algorithm: str
    """Of the teacher."""
    objective: dict[str, Any]
    settings: tuple[str, ...] = ()


REWARDS = {"reward_clip": 1.0, "discount": 0.9}
"""Rewards of 1 a step and a short view: the values then stay within reach of the critic."""

TERMS = {
    "kl": Term("ppo", {"kl": {"temperature": "auto"}}),
    "reverse_kl": Term("ppo", {"reverse_kl": {"temperature": "auto"}}),
    "jsd": Term("ppo", {"jsd": {"temperature": "auto"}}),
    "q_mse": Term("dqn", {"q_mse": {}}, MANY_STEPS),
    "ppd": Term("ppo", {"ppd": REWARDS | {"temperature": 0.03}}, OWN_FRESH_PLAY),
    "kickstart": Term("ppo", {"kickstart": REWARDS | {"temperature": 0.03}}, OWN_FRESH_PLAY),
    "qdagger": Term("dqn", {"qdagger": {}}, SEQUENCES),
}


class World(NamedTuple):
    """An environment and where its teachers are."""

    env_id: str
    teacher: str
    env_steps: int


WORLDS = {
    "cartpole": World("CartPole-v1", "CartPole-v1", 200_000),
    "lunarlander": World("LunarLander-v3", "LunarLander-v2", 400_000),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What a term reached."""

    world: str
    term: str
    teacher: float
    student: float
    share: float
    ci_low: float
    ci_high: float
    seconds: float


def distil(world: str, term: str, args: argparse.Namespace) -> Row:
    """Run one distillation to its end."""
    place, how = WORLDS[world], TERMS[term]
    zoo = Path(args.teachers).resolve()
    settings = (
        f"name='{world}-{term}'",
        f"seed={args.seed}",
        f"total_env_steps={int(place.env_steps * args.scale)}",
        f"env.id='{place.env_id}'",
        f"teacher.path='{zoo / how.algorithm / place.teacher / place.teacher}.zip'",
        f"objective={_inline(how.objective)}",
        f"evaluation={{num_episodes = {args.episodes}}}",
        *how.settings,
        *args.set,
    )
    with tempfile.TemporaryDirectory() as folder:
        words = [word for setting in settings for word in ("--set", setting)]
        done = subprocess.run(
            [*PROGRAM, RECIPE, "--run-dir", f"{folder}/run", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{world}, {term}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        evaluation = json.loads(Path(folder, "run", "evaluation.json").read_text())
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    found = evaluation["tasks"][place.env_id]
    row = Row(
        world,
        term,
        found["teacher"]["mean_return"],
        found["student"]["mean_return"],
        found["share_of_teacher"],
        found["share_ci_low"],
        found["share_ci_high"],
        json.loads(lines[-1])["time/elapsed_s"],
    )
    print(_line(row), flush=True)
    return row


def _inline(tree: dict[str, Any]) -> str:
    """Return a TOML inline table."""
    return "{" + ", ".join(f"{key} = {_value(value)}" for key, value in tree.items()) + "}"


def _value(value: Any) -> str:
    return _inline(value) if isinstance(value, dict) else json.dumps(value)


def _line(row: Row) -> str:
    interval = f"{100 * row.ci_low:.1f} to {100 * row.ci_high:.1f}"
    return (
        f"| {row.world} | `{row.term}` | {row.teacher:.0f} | {row.student:.0f} | "
        f"{100 * row.share:.1f} % ({interval}) | {row.seconds:.0f} s |"
    )


def main() -> None:
    """Run everything that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teachers", required=True, help="folder of ALGORITHM/ENV/ENV.zip")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--terms", nargs="+", default=list(TERMS), choices=TERMS)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="of the env steps")
    parser.add_argument("--set", action="append", default=[], help="further settings, KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = [(world, term) for world in args.worlds for term in args.terms]
    with ThreadPoolExecutor(args.workers) as pool:
        rows = list(pool.map(lambda each: distil(*each, args), wanted))
    if args.out is not None:
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print("\n| world | term | teacher | student | share of the teacher | distillation |")
    print("|---|---|---:|---:|---|---:|")
    for row in rows:
        print(_line(row))
    if short := [row for row in rows if row.share < AIM]:
        sys.exit(f"below {AIM}: " + ", ".join(f"{row.world} {row.term}" for row in short))


if __name__ == "__main__":
    main()
