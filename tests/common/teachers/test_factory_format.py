from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError, PolicyFileError
from common.policies.inference import InferencePolicy
from common.policies.policy import policy_from_bytes, policy_to_bytes
from common.teachers import load_teacher
from common.teachers.factory_format import names_factory
from tests.programs import expected

MODULE = """
import torch
from tests.programs import Linear

def teacher():
    return Linear(), {
        "observation": {"shape": [4]},
        "dist": "logits",
        "outputs": {"dist_inputs": "0", "value": "1"},
    }

def bare():
    return Linear()

def mistaken():
    return Linear(), {"dsit": "logits"}

def broken():
    raise RuntimeError("no weights today")

def number():
    return 3

def local():
    class Local(Linear):
        pass
    return Local(), {"observation": {"shape": [4]}, "dist": "logits"}
"""


@pytest.fixture
def own_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_teachers_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_what_names_a_function() -> None:
    assert names_factory("package.module:function")
    for text in ("teacher.zip", "/a/b:c", "s3://bucket/x", "a:b:c", "a.b", "C:\\x", "./a:b"):
        assert not names_factory(text)


def test_a_function_makes_a_teacher(own_teachers: str) -> None:
    policy = load_teacher(f"{own_teachers}:teacher", trust=True)
    assert (policy.spec.name, policy.spec.dist, policy.num_parameters) == ("teacher", "logits", 8)
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    outputs = InferencePolicy(policy_from_bytes(*policy_to_bytes(policy)))(observations)
    wanted = expected(observations)
    np.testing.assert_allclose(outputs.dist_inputs, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs.value, observations[:, 0], rtol=1e-4, atol=1e-4)


def test_nothing_is_imported_without_trust(own_teachers: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (tmp_path / f"{own_teachers}.py").write_text(f"open({str(touched)!r}, 'w')")
    with pytest.raises(PolicyFileError, match=r"runs its code.*teacher\.trust = true"):
        load_teacher(f"{own_teachers}:teacher")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("function", "error", "complaint"),
    [
        ("absent", PolicyFileError, "cannot be imported"),
        ("bare", PolicyFileError, "does not tell observation.shape"),
        ("mistaken", ConfigError, "dsit: unknown key; did you mean dist?"),
        ("broken", PolicyFileError, "failed (RuntimeError: no weights today)"),
        ("number", PolicyFileError, "returned int; return a torch module"),
        ("local", PolicyFileError, "cannot be pickled for other processes"),
    ],
)
def test_what_goes_wrong_is_one_line(
    own_teachers: str, function: str, error: type[Exception], complaint: str
) -> None:
    name = f"{own_teachers}:{function}"
    with pytest.raises(error) as caught:
        load_teacher(name, trust=True)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(PolicyFileError, match="is its folder in PYTHONPATH"):
        load_teacher("no_such_module_at_all:teacher", trust=True)
    with pytest.raises(PolicyFileError, match=r"write package\.module:function"):
        load_teacher("no colon", format="factory", trust=True)
