"""Finds how networks compute fastest on this machine, for everything that a recipe leaves `auto`.

- Env runner: type (float32, float16, bfloat16) and layout of frames, for batches as large as a
  runner's. A type of 16 bits is only taken where the teacher then takes the same greedy action as
  in float32 on `MIN_AGREEMENT` of real observations; rows where the best action hardly leads are
  computed again in float32, and are part of the time measured.
- Learner: layout and micro-batch size, by whole gradient steps.

Runs once before a distillation starts, where its work will be done. Networks for vectors are too
small for any of it: they compute in float32, whole batches at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from actors.config import ActorsConfig
from cluster.assembly import build_learner
from cluster.recipe.config import RunConfig
from common.config import StrictModel
from common.frames import FrameObservations
from common.measured import remembered, time_in_turn
from common.networks.inputs import Layout, Precision
from common.policies.inference import (
    InferencePolicy,
    Observations,
    lead_of_the_best,
)
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.trajectory import TrajectoryChunk, labelled_chunk
from learners.config import LearnerConfig
from learners.feed import FeedItem

MIN_AGREEMENT = 0.999
SECONDS = 0.15
"""Spent on each candidate."""

REFINE_MARGIN = 1.5
"""What is in doubt, in units of the widest lead that rounding was seen to change."""

TOO_SLOW = 2.0
"""A type of 16 bits that takes this many times as long as float32 is not checked: on a processor
that only emulates it, that would take longer than all else."""

_AGREEMENT_BATCH = 256
_BATCHES = 8
_MICRO_BATCHES_CPU = (32, 64, 128, 256)
_MICRO_BATCHES_GPU = (1_024, 4_096, 16_384)
_WINDOW = 512
"""Transitions that the learner's candidates train on."""
_STACK_ROOM = 4
"""Each of them brings a whole stack of planes."""


def resolve_compute(
    config: RunConfig, teacher: Policy, student: Policy, observations: Observations
) -> tuple[RunConfig, tuple[str, ...]]:
    """Measure what the recipe leaves `auto`.

    Args:
        config: the recipe.
        teacher: the teacher.
        student: the student, with any weights.
        observations: [M, *shape] of real play.

    Returns:
        The recipe with a value in the place of every `auto`, and what was found, in words.
    """
    found: list[str] = []
    actors = _resolve_actors(config.actors, teacher, observations, found.append)
    config = config.model_copy(update={"actors": actors})
    learner = _resolve_learner(config, teacher, student, observations, found.append)
    return config.model_copy(update={"learner": learner}), tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceForm:
    """A way to compute the teacher in an env runner."""

    precision: Precision
    layout: Layout
    refine_below: float
    """Rows whose two largest outputs lie closer are computed again in float32."""
    agreement: float
    """Share of real observations with the same greedy action as in float32."""

    def __str__(self) -> str:
        again = f", in doubt below {self.refine_below:.2g}" if self.refine_below else ""
        return f"{self.precision}{again}, layout {self.layout}"

    def policy(self, teacher: Policy) -> InferencePolicy:
        """Build the teacher in this form."""
        return InferencePolicy(
            teacher,
            precision=self.precision,
            layout=self.layout,
            refine_below=self.refine_below,
        )


def _resolve_actors(
    actors: ActorsConfig, teacher: Policy, observations: Observations, say: Callable[[str], None]
) -> ActorsConfig:
    if "auto" not in (actors.precision, actors.layout):
        return actors
    forms = {str(form): form for form in inference_forms(actors, teacher, observations)}
    batches = np.resize(
        observations, (_BATCHES, actors.num_envs_per_runner, *observations.shape[1:])
    )
    question = ["inference", _shape(teacher), list(batches.shape), list(forms)]
    seconds = remembered(question, lambda: _time_inference(teacher, batches, forms))
    best = min(seconds, key=lambda name: seconds[name])
    form = forms[best]
    if len(forms) > 1:
        speed = batches.shape[0] * batches.shape[1] / seconds[best]
        say(
            f"env runners: {best}; {speed:,.0f} observations/s of the teacher, "
            f"{100 * form.agreement:.2f} % the same greedy action as in float32"
        )
    changes = {
        "precision": form.precision,
        "layout": form.layout,
        "refine_below": form.refine_below,
    }
    return actors.model_copy(update=changes)


def inference_forms(
    actors: ActorsConfig, teacher: Policy, observations: Observations
) -> list[InferenceForm]:
    """Return every type and layout that the recipe and the teacher allow an env runner."""
    precisions: tuple[Precision, ...] = ("float32",)
    if actors.precision != "auto":
        precisions = (actors.precision,)
    elif teacher.spec.observation.dtype == "uint8":
        precisions = teacher.network.precisions()
    layouts = teacher.network.layouts() if actors.layout == "auto" else (actors.layout,)
    if len(precisions) > 1:
        rows = observations[: actors.num_envs_per_runner]
        precisions = _without_emulated(precisions, layouts, teacher, rows)
    forms = []
    for precision in precisions:
        refine_below, agreement = _agreement(teacher, precision, observations)
        if actors.precision != "auto":
            refine_below = actors.refine_below
        elif agreement < MIN_AGREEMENT:
            continue
        forms += [
            InferenceForm(
                precision=precision,
                layout=layout,
                refine_below=refine_below,
                agreement=agreement,
            )
            for layout in layouts
        ]
    return forms


def _without_emulated(
    precisions: tuple[Precision, ...],
    layouts: tuple[Layout, ...],
    teacher: Policy,
    rows: Observations,
) -> tuple[Precision, ...]:
    """Return the types that are not `TOO_SLOW`, each in its best layout."""
    calls = {
        (precision, layout): partial(
            InferencePolicy(teacher, precision=precision, layout=layout), rows
        )
        for precision in precisions
        for layout in layouts
    }
    seconds = time_in_turn(calls, seconds=0.0)
    best = {p: min(seconds[p, layout] for layout in layouts) for p in precisions}
    return tuple(p for p in precisions if best[p] <= TOO_SLOW * best["float32"])


def _agreement(
    teacher: Policy, precision: Precision, observations: Observations
) -> tuple[float, float]:
    """Return what to compute again in float32, and the agreement that is then reached.

    The first half of the observations says how close the two best actions lie where rounding
    changes the greedy one; the second half says how often it changes it beyond that.
    """
    if precision == "float32" or teacher.spec.action_box is not None:
        return 0.0, 1.0
    exact, fast = InferencePolicy(teacher), InferencePolicy(teacher, precision=precision)
    leads, differs = [], []
    for start in range(0, len(observations), _AGREEMENT_BATCH):
        batch = observations[start : start + _AGREEMENT_BATCH]
        wanted, found = (policy(batch).dist_inputs for policy in (exact, fast))
        same = (wanted.argmax(-1) == found.argmax(-1)) & np.isfinite(found).all(-1)
        leads.append(lead_of_the_best(found))
        differs.append(~same)
    lead, differ = np.concatenate(leads), np.concatenate(differs)
    half = len(lead) // 2
    in_doubt = lead[:half][differ[:half]]
    refine_below = float(f"{REFINE_MARGIN * in_doubt.max(initial=0.0):.2g}")
    missed = differ[half:] & ~(lead[half:] < refine_below)
    return refine_below, 1.0 - float(missed.mean())


def _time_inference(
    teacher: Policy, batches: Observations, forms: dict[str, InferenceForm]
) -> dict[str, float]:
    """Return seconds that each form takes for all batches."""
    if len(forms) == 1:
        return dict.fromkeys(forms, 1.0)
    calls = {name: _forwards(form.policy(teacher), batches) for name, form in forms.items()}
    return time_in_turn(calls, seconds=SECONDS)


def _forwards(policy: InferencePolicy, batches: Observations) -> Callable[[], object]:
    return lambda: [policy(batch) for batch in batches]


def _resolve_learner(
    config: RunConfig,
    teacher: Policy,
    student: Policy,
    observations: Observations,
    say: Callable[[str], None],
) -> LearnerConfig:
    learner = config.learner
    if "auto" not in (learner.micro_batch_size, learner.layout):
        return learner
    candidates = training_forms(learner, student)
    question = ["training", _shape(student), learner.rank_batch_size, learner.precision]
    question += [learner.num_gpus > 0, list(candidates), learner.sequence_length]
    if config.objective.needs_features:
        question.append(_shape(teacher))
    seconds = remembered(
        question, lambda: _time_training(config, candidates, teacher, student, observations)
    )
    best = min(seconds, key=lambda name: seconds[name])
    if len(candidates) > 1:
        say(f"learner: {best}; {1 / seconds[best]:,.0f} samples/s")
    return candidates[best]


def _time_training(
    config: RunConfig,
    candidates: dict[str, LearnerConfig],
    teacher: Policy,
    student: Policy,
    observations: Observations,
) -> dict[str, float]:
    """Return seconds a sample of each candidate."""
    if len(candidates) == 1:
        return dict.fromkeys(candidates, 1.0)
    largest = (_MICRO_BATCHES_GPU if config.learner.num_gpus > 0 else _MICRO_BATCHES_CPU)[-1]
    batch_size = min(config.learner.rank_batch_size, largest)
    length = config.learner.sequence_length
    batch_size = max(length, batch_size - batch_size % length)
    # What student and teacher see may differ; how fast pixels are learnt from does not.
    seen = np.resize(observations[:_WINDOW], (_WINDOW, *student.spec.observation.shape))
    chunk = _chunk(seen, teacher, length)
    steps: dict[str, Callable[[], object]] = {}
    for name, candidate in candidates.items():
        changes: dict[str, StrictModel] = {}
        changes["learner"] = candidate.model_copy(update={"batch_size": batch_size})
        changes["replay"] = config.replay.model_copy(update={"window": 2 * _WINDOW * _STACK_ROOM})
        trained = policy_from_bytes(*policy_to_bytes(student))
        learner = build_learner(
            config.model_copy(update=changes), trained, (teacher.spec.dist,), teacher=teacher
        )
        learner.receive(FeedItem(granted=0, chunks=[chunk]))
        steps[name] = learner.step
    return {
        name: seconds / batch_size for name, seconds in time_in_turn(steps, seconds=SECONDS).items()
    }


def training_forms(learner: LearnerConfig, student: Policy) -> dict[str, LearnerConfig]:
    """Return recipes' tables to compare, by what distinguishes them."""
    frames = len(student.spec.observation.shape) == 3
    batch_size = learner.rank_batch_size
    sizes: list[int] = [batch_size]
    if learner.micro_batch_size != "auto":
        sizes = [learner.micro_batch_size]
    elif frames:
        usual = _MICRO_BATCHES_GPU if learner.num_gpus > 0 else _MICRO_BATCHES_CPU
        length = learner.sequence_length
        sizes = [size for size in usual if size < batch_size and size % length == 0]
        sizes += [batch_size] if batch_size <= usual[-1] or not sizes else []
    layouts = student.network.layouts() if learner.layout == "auto" else (learner.layout,)
    return {
        f"micro-batches of {size}, layout {layout}": learner.model_copy(
            update={"micro_batch_size": size, "layout": layout}
        )
        for size in sizes
        for layout in layouts
    }


def _chunk(observations: Observations, teacher: Policy, num_steps: int) -> TrajectoryChunk:
    """Return observations as transitions, labelled with nothing in particular."""
    num_envs = -(-len(observations) // num_steps)
    rows = (num_steps, num_envs)
    observations = np.resize(observations, (num_steps * num_envs, *observations.shape[1:]))
    count, stack, height, width = observations.shape
    frames = FrameObservations(
        planes=observations.reshape(count * stack, height, width).astype(np.uint8, copy=False),
        last_plane=(np.arange(count, dtype=np.int32) * stack + stack - 1).reshape(rows),
        stack=stack,
    )
    labels = np.zeros((*rows, teacher.spec.num_dist_inputs), np.float32)
    value = np.zeros(rows, np.float32) if teacher.spec.has_value else None
    return labelled_chunk(frames, labels, value)


def _shape(policy: Policy) -> list[object]:
    """Return what the speed of a policy depends on."""
    spec = policy.spec
    observation, network = list(spec.observation.shape), spec.network.model_dump(mode="json")
    return [network, observation, spec.num_dist_inputs, spec.has_value]
