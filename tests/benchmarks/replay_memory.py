"""Replay memory: bytes a transition of trained play, game by game, and a million of them at once.

    python -m tests.benchmarks.replay_memory --out replay_memory.json
    python -m tests.benchmarks.replay_memory --million

Teachers play with the product's own env runner (ε = 0.05, so that play is trained but not one
game over and over) and every chunk goes through the product's codec; a transition's bytes are
`num_bytes / num_transitions` of the encoded chunk: frames, teacher logits and values, actions,
rewards, flags and headers. The Space Invaders teacher is recurrent and plays on single 80 × 80
frames of the playing field, cropped and contrast-stretched: `space_invaders` holds what a student
sees of its games (4 × 84 × 84, as the others), `space_invaders_own` the teacher's own frames
(80 × 80 planes, stack of 1). The teachers lie in
`../shared/teachers` beside the checkout; Pong's is the bundled one.

`--million` fills one `ReplayShard`, in a fresh process, with a million transitions of real Pong
chunks, each a separate copy in memory with a chunk id of its own, and reports by how much the
process grew (unique set size, 1 MB = 1,000,000 bytes).

Aim: at most 200 bytes a transition on every game, and a million in at most 250 MB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np

from actors.behavior import TeacherDriven
from actors.env_runner import EnvRunner, EpisodeResult
from actors.environments import VectorEnvironment, make_environment
from actors.environments.atari import AtariConfig, AtariView
from common.codec import EncodedChunk, encode
from common.networks.inputs import Precision
from common.policies.inference import InferencePolicy, hardware_has_bfloat16
from common.teachers import load_teacher
from common.threads import set_threads

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "teachers"
BUNDLED = ROOT / "deploy" / "teachers" / "pong-nature.safetensors"
TEACHERS = {
    "pong": "pong-nature",
    "breakout": "breakout-ppo-akrewtik",
    "qbert": "qbert-acktr-ikostrikov",
    "seaquest": "seaquest-acktr-ikostrikov",
    "space_invaders": "spaceinvaders-a3cgru-babya3c",
    "space_invaders_own": "spaceinvaders-a3cgru-babya3c",
}
COPIES, UNROLL = 32, 64
"""Chunks as the recipes have them by default."""
EPSILON = 0.05
FIELD = AtariView(picture="field", frame_size=80, frame_stack=1, max_pool=False)
"""What the recurrent teacher sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameFigures:
    """What one game's play takes."""

    game: str
    teacher: str
    plane: str
    transitions: int
    chunks: int
    bytes_median: float
    """Bytes a transition, median over chunks."""
    bytes_mean: float
    bytes_max: float
    score_per_copy: float
    """Raw rewards that an env copy collected meanwhile: what shows that play is trained."""
    episodes: int
    mean_return: float | None


def make_player(game: str) -> tuple[InferencePolicy, VectorEnvironment]:
    """Load a game's teacher and make the environment that it plays in."""
    name = TEACHERS[game]
    path = BUNDLED if name == BUNDLED.stem else SHARED / name / f"{name}.safetensors"
    if not path.exists():
        sys.exit(f"{path.name} is not there: put the shared teachers into ../shared/teachers")
    if "gru" in name:
        seen = AtariConfig(id=game.removesuffix("_own"), noop_max=0, fire_reset=False)
        own = FIELD.of(seen)
        shown = own if game.endswith("_own") else seen
        games = make_environment(shown, num_envs=COPIES, teacher_view=own)
        return InferencePolicy(load_teacher(path)), games
    precision: Precision = "bfloat16" if hardware_has_bfloat16() else "float32"
    env = make_environment(AtariConfig(id=game), num_envs=COPIES)
    return InferencePolicy(load_teacher(path), precision=precision), env


def play(game: str, num_transitions: int) -> tuple[list[EncodedChunk], GameFigures]:
    """Collect chunks of trained play until they hold `num_transitions`."""
    teacher, env = make_player(game)
    runner = EnvRunner(
        env,
        teacher=teacher,
        student=teacher,  # never acts
        behavior=TeacherDriven(teacher_epsilon=EPSILON),
        unroll_length=UNROLL,
        total_env_steps=num_transitions,
        runner_id=0,
        incarnation=0,
        task_id=game,
        seed=0,
    )
    chunks: list[EncodedChunk] = []
    episodes: list[EpisodeResult] = []
    score = 0.0
    while runner.env_steps < num_transitions:
        chunk = runner.sample()
        score += float(chunk.rewards.sum())
        chunks.append(encode(chunk))
        episodes += runner.drain_episodes()
    sizes = [chunk.num_bytes / chunk.num_transitions for chunk in chunks]
    _, *plane = env.spec.observation.shape
    env.close()
    return chunks, GameFigures(
        game=game,
        teacher=teacher.spec.name,
        plane="x".join(str(side) for side in plane),
        transitions=runner.env_steps,
        chunks=len(chunks),
        bytes_median=median(sizes),
        bytes_mean=sum(chunk.num_bytes for chunk in chunks) / runner.env_steps,
        bytes_max=max(sizes),
        score_per_copy=score / COPIES,
        episodes=len(episodes),
        mean_return=mean(e.episode_return for e in episodes) if episodes else None,
    )


def million(chunks: list[EncodedChunk]) -> dict[str, float]:
    """Hand chunks to a fresh process that fills a shard, and return what it says."""
    with tempfile.TemporaryDirectory() as name:
        for number, chunk in enumerate(chunks):
            path = Path(name) / f"{number:05d}.chunk"
            chunk.payload.tofile(path)
            np.save(path.with_suffix(".npy"), [chunk.num_transitions, chunk.checksum])
        command = [sys.executable, "-m", "tests.benchmarks.replay_million", name]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def main() -> None:
    """Measure game by game, or a million transitions of Pong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", nargs="+", choices=list(TEACHERS), default=list(TEACHERS))
    parser.add_argument("--transitions", type=int, default=40_960)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    set_threads(1)
    figures: dict[str, object] = {}
    for game in ["pong"] if args.million else args.games:
        chunks, found = play(game, args.transitions)
        figures[game] = asdict(found)
        print(
            f"{game:18} {found.bytes_median:6.1f} B a transition (mean {found.bytes_mean:.1f}, "
            f"largest chunk {found.bytes_max:.1f}), {found.plane} planes, {found.transitions:,} "
            f"transitions, {found.score_per_copy:.1f} points a copy; {found.teacher}",
            flush=True,
        )
    if args.million:
        held = million(chunks)
        figures["million"] = held
        print(
            f"{held['transitions']:,} transitions: the process grew by "
            f"{held['process_growth_mb']:.1f} MB, the shard counts {held['shard_mb']:.1f} MB in "
            f"{held['chunks']} chunks ({held['distinct_chunks']} distinct)"
        )
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
