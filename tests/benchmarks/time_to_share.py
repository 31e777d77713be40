"""Time to a share of the teacher: the product beside a plain loop in one process, in turn.

    python -m tests.benchmarks.time_to_share --rounds 2 --out time_to_share.json

Each road distils the recipe (Pong by default) in a process of its own and leaves its student on
disk every `--every` seconds. The product runs as a user starts it, `stillhouse run RECIPE`, with
Ray's start and the baseline games of teacher and random policy within its time; the plain loop
(`tests.benchmarks.one_process`) plays no baseline. After `--limit` seconds a road is ended. Then
its students play `--episodes` full games each, acting as the teacher does (Pong's: greedily), on
other seeds than in training, and the answer is the wall-clock from the start of the process to
the moment at which the first of two students in a row was written that both reach `--share` of
the teacher's return (over a random policy's). Students are looked for by bisection, so not all of
them play; what stays true only if students get no worse is that no earlier pair would do.

Aim: 95 % of the Pong teacher within 5 minutes on 2 cores.
"""

import argparse
import json
import math
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from cluster.on_ray.actors import play_remotely
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from common.policies.policy import Policy, policy_to_bytes
from common.statistics import share_of_teacher
from tests.benchmarks.roads import ROADS, Road, Student

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "pong.toml"
EVALUATION_SEED = 1_000_000


class Judge:
    """Lets policies play and says which share of the teacher they reach.

    Args:
        recipe: the recipe.
        overrides: what is changed in it.
        episodes: full games of each policy.
        workers: processes that share them.
    """

    def __init__(self, recipe: Path, overrides: list[str], *, episodes: int, workers: int) -> None:
        self._config = load_recipe(recipe, overrides)
        self.preparation = prepare(self._config, num_cpus=math.inf, num_gpus=0)
        self._part, self._workers = -(-episodes // workers), workers
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def share(self, student: Policy) -> float:
        """Return the student's share."""
        teacher, random = self._references
        found = share_of_teacher(self.returns(student), teacher, random)
        if found is None:
            sys.exit("the teacher is measurably no better than random actions: no share to reach")
        return found.share

    def returns(self, policy: Policy | None) -> list[float]:
        """Return the returns of a policy's games, or of random actions."""
        recipe = self._config.model_dump_json()
        packed = None if policy is None else policy_to_bytes(policy)
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + self._workers * self._part, self._part)
        parts = [
            self._pool.submit(play_remotely, recipe, packed, None, self._part, seed, 0)
            for seed in seeds
        ]
        return [value for found in parts for value in found.result().returns]

    def close(self) -> None:
        """End the processes that play."""
        self._pool.shutdown()

    @cached_property
    def _references(self) -> tuple[list[float], list[float]]:
        return self.returns(self.preparation.teacher), self.returns(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How long one road took in one round."""

    road: str
    seconds: float | None
    """None: it did not get there."""
    env_steps: int | None
    """Transitions behind that student."""
    share: float | None
    before_distillation_s: float
    """Until the road began to collect, as far as it can be told: Ray's start, baseline games."""
    transitions_per_s: float
    """From there to the last student; the plain loop's from its start."""
    played: dict[str, float]
    """Shares of all students that played, by the seconds at which they were written."""


def find(road: Road, students: list[Student], begun_s: float, judge: Judge, share: float) -> Answer:
    """Look for the first of two students in a row that both reach `share`."""
    shares: dict[int, float] = {}

    def holds(index: int) -> bool:
        if index not in shares:
            shares[index] = judge.share(students[index].load(judge.preparation))
            print(f"  student of {students[index].seconds:.0f} s: {shares[index]:.3f}", flush=True)
        return shares[index] >= share

    low, high = 0, len(students) - 1  # the first one that holds lies in [low, high]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    pairs = range(low, len(students) - 1)
    first = next((index for index in pairs if holds(index) and holds(index + 1)), None)
    last = students[-1]
    return Answer(
        road=road.name,
        seconds=None if first is None else students[first].seconds,
        env_steps=None if first is None else students[first].env_steps,
        share=None if first is None else shares[first],
        before_distillation_s=begun_s,
        transitions_per_s=last.env_steps / (last.seconds - begun_s),
        played={f"{students[index].seconds:.1f}": value for index, value in shares.items()},
    )


def measure(name: str, args: argparse.Namespace, judge: Judge) -> Answer:
    """Run one road, let its students play, and say when it got there."""
    with tempfile.TemporaryDirectory() as folder:
        road = ROADS[name](args.recipe, args.set, Path(folder))
        begun_s = road.run(every=args.every, limit=args.limit)
        answer = find(road, road.students(), begun_s, judge, args.share)
    when = "not reached" if answer.seconds is None else f"{answer.seconds:.0f} s"
    print(
        f"{name:10} {100 * args.share:g} %: {when} ({answer.env_steps} transitions; distilling "
        f"from {begun_s:.0f} s on, {answer.transitions_per_s:.0f} transitions/s)",
        flush=True,
    )
    return answer


def main() -> None:
    """Run both roads in turn and print when each got there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2, help="processes that play the games")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two students")
    parser.add_argument("--limit", type=float, default=660.0, help="seconds of each road")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--roads", nargs="+", choices=list(ROADS), default=list(ROADS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    answers: list[Answer] = []
    games = {"episodes": args.episodes, "workers": args.workers}
    with closing(Judge(args.recipe, args.set, **games)) as judge:
        for _ in range(args.rounds):
            for name in args.roads:
                answers.append(measure(name, args, judge))
                if args.out is not None:
                    tree = [asdict(answer) for answer in answers]
                    args.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for name in args.roads:
        times = [a.seconds or math.inf for a in answers if a.road == name]
        print(f"median of {name:10} {median(times):.0f} s")


if __name__ == "__main__":
    main()
