"""Python that a document shows, run as it stands, beside files as the document speaks of them."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from learners.export.c_export import export_c
from learners.export.onnx_export import export_onnx
from tests.cartpole import cartpole_teacher
from tests.deploy.documents import DOCUMENTS, ROOT, code_in_sentences, python_of
from tests.learners.export.programs import observations_for

STUDENTS = ROOT / "deploy" / "guide" / "students.md"
QUICKSTART = ROOT / "deploy" / "guide" / "quickstart.md"
"""Its Python is run by `test_guide`, before the page's commands."""

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")


@needs_cc
def test_the_page_on_students_asks_the_onnx_file_and_the_c_program_the_same(tmp_path: Path) -> None:
    policy = cartpole_teacher()
    export_onnx(policy, tmp_path / "student.onnx")
    export_c(policy, tmp_path / "student.c", calibration=observations_for(policy, 100))
    [build] = code_in_sentences(STUDENTS, "cc ")
    subprocess.run(shlex.split(build), cwd=tmp_path, check=True)
    script = f"{python_of(STUDENTS)}\nprint(action[0])"
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    of_program, of_onnx = said.stdout.splitlines()
    assert of_program.split()[0] == of_onnx


def test_a_page_with_python_is_tried() -> None:
    assert [path for path in DOCUMENTS if python_of(path)] == [QUICKSTART, STUDENTS]
