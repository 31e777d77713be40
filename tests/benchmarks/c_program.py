"""C programs of policies in the loop: size, memory, time, agreement and score, as a table.

    python -m tests.benchmarks.c_program --episodes 30 RUN_DIR_OR_POLICY …

Programs are compiled as shared libraries with `cc -O3` and asked one observation at a time. Both
play the same number of episodes on the same seed; the share is of the policy's return beyond a
random policy's.
"""

import argparse
import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from actors.environments import make_environment
from actors.evaluator import EvaluationResult, evaluate
from cluster.played_observations import environment_of, played_observations
from cluster.run_directory import RunDirectory
from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.policy import Policy
from common.statistics import bootstrap_mean, share_of_teacher
from common.storage import locate
from common.teachers import load_teacher
from common.threads import set_threads
from learners.export.c_export import export_c, verify_c
from learners.export.integer.c_compiler import find_compiler
from learners.footprint import measure_footprint

SEED = 1_000
"""Not that of the play that calibrates."""


class LibraryPolicy(InferencePolicy):
    """A policy that asks the C program of another.

    Args:
        policy: the other.
        library: its program, compiled.
    """

    def __init__(self, policy: Policy, library: Path) -> None:
        super().__init__(policy)
        self._act = ctypes.CDLL(str(library)).stillhouse_act
        self._width = policy.spec.num_dist_inputs
        assert policy.spec.num_actions is not None, "of discrete actions"

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return what the program says."""
        scores = np.zeros((len(observations), self._width), np.float32)
        for observation, row in zip(np.ascontiguousarray(observations), scores, strict=True):
            chosen = self._act(
                observation.ctypes.data_as(ctypes.c_void_p), row.ctypes.data_as(ctypes.c_void_p)
            )
            assert row[chosen] == row.max()
        return PolicyOutputs(scores, None)


def shared_library(source: Path) -> Path:
    """Compile a program as a library."""
    library, compiler = source.with_suffix(".so"), find_compiler()
    assert compiler is not None, "there is no C compiler here"
    subprocess.run(
        [compiler, "-std=c99", "-O3", "-shared", "-fPIC", source, "-o", library], check=True
    )
    return library


def measured(name: str, episodes: int, folder: Path) -> str:
    """Export a policy, play with both, and return the table's row."""
    source = locate(name)
    policy = load_teacher(RunDirectory(source).student if source.is_dir() else source)
    path = folder / "student.c"
    export = export_c(policy, path, calibration=played_observations(policy, source, None))
    config = environment_of(policy, source, None)

    def play(player: InferencePolicy | None) -> EvaluationResult:
        env = make_environment(config, num_envs=episodes)
        result = evaluate(
            env,
            player,
            acting=policy.spec.acting,
            num_episodes=episodes,
            seed=SEED,
            num_observations=5_000,
        )
        env.close()
        return result

    own = play(InferencePolicy(policy))
    program = play(LibraryPolicy(policy, shared_library(path)))
    share = share_of_teacher(program.returns, own.returns, play(None).returns)
    check = verify_c(path, export, policy, own.observations)
    size = measure_footprint(policy, bytes_on_disk=None)
    means = [bootstrap_mean(result.returns).mean for result in (own, program)]
    agreement, latency = check.likeness.greedy_agreement, check.latency_ms
    assert None not in (agreement, latency, share)
    cells = [
        policy.spec.name,
        f"{size.parameters:,}",
        f"{size.bytes:,}",
        f"{path.stat().st_size:,}",
        f"{export.source.constant_bytes:,}",
        f"{export.source.ram_bytes:,}",
        f"{export.network.bits}",
        f"{size.latency_ms:.4f} ms",
        f"{latency:.4f} ms",
        f"{100 * agreement:.2f} % of {check.observations:,}",
        f"{means[0]:.2f}",
        f"{means[1]:.2f}",
        f"{100 * share.share:.1f} % ({100 * share.ci_low:.1f} to {100 * share.ci_high:.1f})",
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
    columns = ["policy", "parameters", "float32 bytes", "file", "constants", "RAM", "bits"]
    columns += ["latency", "in C", "same action", "return", "in C", "share"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in args.sources:
        with tempfile.TemporaryDirectory() as folder:
            print(measured(name, args.episodes, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
