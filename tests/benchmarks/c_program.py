"""C programs of policies: size, memory, time, agreement and score, as a table.

    python -m tests.benchmarks.c_program --episodes 30 RUN_DIR_OR_POLICY …

It is what `stillhouse export --format c --play 30` finds, and the time that a decision takes in the
program itself, compiled with `cc -O3`, where the call from Python is not counted.
"""

import argparse
import tempfile
from pathlib import Path

from cluster.exports.exporting import export_checked
from cluster.exports.source import open_source
from cluster.scene import Scene
from common.statistics import bootstrap_mean
from common.storage import locate
from common.threads import set_threads
from learners.export.integer.c_compiler import find_compiler
from learners.footprint import measure_footprint
from tests.learners.export.c_program import compiled
from tests.learners.export.programs import observations_for

COLUMNS = ["policy", "parameters", "float32 bytes", "file", "program", "a decision, float32"]
COLUMNS += ["in C", "same action", "return, float32", "in C", "share"]


def measured(name: str, episodes: int, path: Path) -> str:
    """Export a policy, let both play, and return the table's row."""
    source, compiler = open_source(name, Scene()), find_compiler()
    assert compiler is not None, "there is no C compiler here"
    scores = export_checked(
        source, "c", "int8", locate(path), calibration=None, num_episodes=episodes
    )
    size = measure_footprint(source.policy, bytes_on_disk=None)
    with compiled(path.read_text(), compiler) as program:
        latency = program.latency_ms(observations_for(source.policy, 64))
    cells = [
        source.policy.spec.name,
        f"{size.parameters:,}",
        f"{size.bytes:,}",
        f"{scores.cost.num_bytes:,}",
        scores.notes,
        f"{scores.policy_cost.latency_ms:.4f} ms",
        f"{latency:.4f} ms",
        str(scores.check),
    ]
    if (played := scores.played) is not None and (share := played.share) is not None:
        returns = (played.policy.returns, played.exported.returns)
        cells += [f"{bootstrap_mean(of_one).mean:.2f}" for of_one in returns]
        cells += [
            f"{100 * share.share:.1f} ({100 * share.ci_low:.1f} to {100 * share.ci_high:.1f})"
        ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row a policy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--episodes", type=int, default=30)
    args = parser.parse_args()
    set_threads(1)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in args.sources:
        with tempfile.TemporaryDirectory() as folder:
            print(measured(name, args.episodes, Path(folder) / "student.c"), flush=True)


if __name__ == "__main__":
    main()
