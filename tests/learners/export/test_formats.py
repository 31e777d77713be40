"""What every export format keeps to, in every precision that it has.

Each file is run in its own runtime against the student that it was made from (a zip for
Stable-Baselines3 is read back; `test_sb3_export` lets SB3 itself load it), opened to play, and read
as a teacher, which all are but programs in C.
"""

from pathlib import Path

import numpy as np
import pytest

from common.policies.inference import InferencePolicy
from common.storage import locate
from common.teachers import load_teacher
from learners.export import EXPORT_FORMATS, LIMITS, Precision, compare, latency_ms
from tests.learners.export.programs import needs_compiler
from tests.students import STUDENTS

MARKS = {
    ("c", "cartpole"): needs_compiler,
    ("c", "pong"): [needs_compiler, pytest.mark.slow],  # which it rounds and compiles for seconds
}
CASES = [
    pytest.param(name, precision, student, marks=MARKS.get((name, student), ()))
    for name, chosen in EXPORT_FORMATS.items()
    for precision in chosen.precisions
    for student in STUDENTS
]
LEAST = {("onnx", "int8", "pong"): 0.96}
"""The bundled policy of Pong often finds two buttons equally good."""


@pytest.mark.parametrize(("name", "precision", "student"), CASES)
def test_a_file_acts_as_its_student_in_its_own_runtime_and_as_a_teacher(
    name: str, precision: Precision, student: str, tmp_path: Path
) -> None:
    policy, calibration, observations = STUDENTS[student]()
    chosen, place = EXPORT_FORMATS[name], locate(tmp_path / f"file{EXPORT_FORMATS[name].suffix}")
    chosen.write(policy, place, precision, calibration)
    assert place.is_dir() == chosen.is_folder
    run = chosen.run(place, policy)
    check = compare(run, policy, observations)
    enough = LEAST.get((name, precision, student), chosen.limits[precision].min_agreement)
    assert check.greedy_agreement >= enough, str(check)
    if name == "c":
        assert check.max_abs_difference is None  # it gives actions only
    else:  # Rounding to int8 and float16 shows, and nothing else rounds.
        assert (check.max_abs_difference < 1e-4) == (precision == "float32")
        assert load_teacher(tmp_path / place.name, trust=True).spec.dist == policy.spec.dist
    assert 0 < latency_ms(run, policy) < 1_000

    player = chosen.open(place, policy)
    assert player.spec.num_actions == policy.spec.num_actions
    assert player.spec.acting == policy.spec.acting
    said, wanted = (each(observations).dist_inputs for each in (player, InferencePolicy(policy)))
    assert (said.argmax(-1) == wanted.argmax(-1)).mean() >= enough


@pytest.mark.parametrize("student", STUDENTS)
def test_students_act_differently_in_different_states(student: str) -> None:
    policy, _, observations = STUDENTS[student]()
    greedy = InferencePolicy(policy)(observations).dist_inputs.argmax(-1)
    shares = np.bincount(greedy, minlength=policy.spec.num_actions) / len(greedy)
    assert np.sort(shares)[-2] > 0.1  # so that an agreement of 98 % says something


def test_a_file_that_acts_otherwise_does_not_suffice(tmp_path: Path) -> None:
    policy, _, observations = STUDENTS["cartpole"]()

    def opposite(given):
        wanted = EXPORT_FORMATS["onnx"].run(locate(tmp_path / "a.onnx"), policy)(given)
        return wanted | {"action": 1 - wanted["action"]}

    EXPORT_FORMATS["onnx"].write(policy, locate(tmp_path / "a.onnx"), "float32", None)
    check = compare(opposite, policy, observations[:100])
    assert check.greedy_agreement == 0.0
    assert not check.suffices(LIMITS["int8"])
