"""What every export format keeps to: what it writes is a teacher like the policy.

C programs are for devices, and no teachers: `test_c_export.py` runs them.
"""

from pathlib import Path

import numpy as np
import pytest

from common.policies.inference import InferencePolicy
from common.storage import locate
from common.teachers import load_teacher
from learners.export import EXPORT_FORMATS
from tests.cartpole import cartpole_teacher


@pytest.mark.parametrize("name", [name for name in EXPORT_FORMATS if name != "c"])
def test_what_is_written_says_what_the_policy_says(name: str, tmp_path: Path) -> None:
    policy, written = cartpole_teacher(), tmp_path / f"student.{name}"
    EXPORT_FORMATS[name].write(policy, locate(written), None)
    assert written.is_dir() == EXPORT_FORMATS[name].is_folder
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    said = InferencePolicy(load_teacher(written))(observations).dist_inputs
    wanted = InferencePolicy(policy)(observations).dist_inputs
    np.testing.assert_allclose(said, wanted, rtol=0, atol=1e-5)
