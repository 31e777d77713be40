"""C programs, compiled and run."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from common.errors import MismatchError, RunFailedError, StorageError
from common.policies.actions import mean_actions
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from common.storage import locate
from learners.export import EXPORT_FORMATS
from learners.export.c_export import export_c, in_whole_numbers
from learners.export.c_run import open_c, run_c
from learners.export.check import ExportCheck, compare
from learners.export.integer.c_compiler import FLAGS, CLibrary, find_compiler
from learners.export.integer.c_source import CSource, c_source
from learners.export.integer.integer_network import IntegerNetwork
from learners.export.integer.quantisation import LARGEST_SUM
from tests.cartpole import GAINS, cartpole_teacher
from tests.learners.export.c_program import compiled
from tests.learners.export.programs import (
    SPECS,
    extremes_for,
    needs_compiler,
    needs_cxx,
    observations_for,
    policy_of,
)


class Exported(NamedTuple):
    policy: Policy
    network: IntegerNetwork
    source: CSource


@pytest.fixture(scope="module", params=list(SPECS))
def exported(request) -> Exported:
    policy = policy_of(request.param)
    network = in_whole_numbers(policy, observations_for(policy, 400))
    return Exported(policy, network, c_source(network, policy.spec))


def assert_same(program, network: IntegerNetwork, observations: npt.NDArray[np.generic]) -> None:
    said, wanted = program(observations), network(observations)
    np.testing.assert_array_equal(said.actions, wanted.actions)
    np.testing.assert_array_equal(said.scores, wanted.scores)
    assert np.isfinite(said.scores).all()


def checked(path: Path, policy: Policy, observations: npt.NDArray[np.generic]) -> ExportCheck:
    return compare(run_c(locate(path), policy), policy, observations)


@needs_compiler
def test_the_program_acts_as_the_policy_does(exported, tmp_path):
    policy, _, source = exported
    (tmp_path / "student.c").write_text(source.text)
    observations = observations_for(policy, 500, seed=1)
    observations.flags.writeable = False
    check = checked(tmp_path / "student.c", policy, observations)
    assert check.observations == 500
    assert check.max_abs_difference is None
    agreement, error = check.greedy_agreement, check.action_error
    assert (1.0 if agreement is None else agreement) >= 0.98  # random outputs are nearly equal
    assert (0.0 if error is None else error) <= 0.01
    assert (agreement is None) == (policy.spec.action_box is not None)


@needs_compiler
def test_it_computes_what_its_reference_does_to_the_bit(exported):
    policy, network, source = exported
    library = CLibrary(source.text, len(network.head.weights))
    tried = np.concatenate([extremes_for(policy), observations_for(policy, 200, seed=4)])
    assert_same(library, network, tried)
    assert_same(library, network, tried[::2])


@needs_compiler
def test_it_plays_what_it_says(exported, tmp_path):
    policy, network, source = exported
    (tmp_path / "student.c").write_text(source.text)
    player = open_c(locate(tmp_path / "student.c"), policy)
    observations = np.concatenate([extremes_for(policy), observations_for(policy, 200, seed=5)])
    said, wanted = player(observations), network(observations)
    if (box := policy.spec.action_box) is None:
        np.testing.assert_array_equal(said.dist_inputs.argmax(-1), wanted.actions)
        return
    taken = box.from_units(mean_actions(player.spec.dist, said.dist_inputs))
    np.testing.assert_allclose(taken, wanted.scores, atol=1e-5)


@needs_compiler
def test_alone_it_says_the_same_whatever_comes_and_nothing_overflows(exported):
    policy, network, source = exported
    flags = [*FLAGS, "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]
    tried = np.concatenate([extremes_for(policy), observations_for(policy, 200, seed=2)])
    with compiled(source.text, find_compiler(), flags) as program:
        assert_same(program, network, tried)
        assert 0 < program.latency_ms(tried[:1]) < 100


@needs_compiler
def test_alone_it_says_what_it_reads_and_refuses_what_is_no_whole_observation(exported):
    policy, _, source = exported
    dtype, shape = policy.spec.observation.dtype, policy.spec.observation.shape
    size = np.zeros(shape, dtype).nbytes
    told = f"{np.prod(shape)} numbers of {dtype}"
    assert told in " ".join(source.text.partition("*/")[0].split())
    assert f'astype("{np.dtype(dtype).str[1:]}")' in source.text
    observation = observations_for(policy, 1)
    with compiled(source.text, find_compiler()) as program:
        for content, left in ((b"0.1 ", 4), (observation.tobytes() + b"0", 1)):
            done = program.fed(content)
            assert done.returncode == 2
            assert done.stdout.count(b"\n") == len(content) // size
            [line] = done.stderr.decode().splitlines()
            for words in (f"an observation has {size} bytes", told, f"{left} were left"):
                assert words in line
        assert program.fed(b"").returncode == 0


@needs_cxx
def test_it_is_cxx_too(exported):
    policy, network, source = exported
    flags = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    with compiled(source.text, "c++", flags) as program:
        assert_same(program, network, observations_for(policy, 20, seed=3))


def test_the_file_has_no_heap_and_tells_the_memory_that_it_takes(exported):
    _, network, source = exported
    text = source.text
    assert "malloc" not in text
    assert "math.h" not in text
    assert f"{source.ram_bytes:,} bytes of static buffers" in text
    layers = [*network.layers, network.head]
    weights = sum(layer.weights.nbytes for layer in layers)
    tables = sum(9 * len(layer.weights) for layer in layers)
    assert weights + tables <= source.constant_bytes < weights + tables + 4_000


CALLER = """
#include <stdio.h>
#include "student.c"
int main(void)
{
    float observation[STILLHOUSE_OBSERVATION_SIZE] = {0.01f, 0.0f, 0.02f, 0.0f};
    printf("%d", stillhouse_act(observation, NULL));
    return 0;
}
"""


@needs_compiler
def test_another_program_includes_it_whatever_the_policy_is_called(tmp_path):
    told = cartpole_teacher()
    names = {"name": 'a */ "b" /* ??/ \\\n c', "action_meanings": ("LEFT */", "RIGHT\n")}
    policy = Policy(told.spec.model_copy(update=names), told.network)
    export_c(policy, tmp_path / "student.c", calibration=observations_for(policy, 50))
    (tmp_path / "caller.c").write_text(CALLER)
    program = tmp_path / "caller"
    subprocess.run([find_compiler(), *FLAGS, tmp_path / "caller.c", "-o", program], check=True)
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"1"


@needs_compiler
@pytest.mark.parametrize("weight_bits", [8, 12])
def test_weights_are_as_narrow_as_will_do(weight_bits, tmp_path):
    policy, seen = cartpole_teacher(), np.random.default_rng(0).normal(size=(2000, 4))
    if weight_bits == 12:  # states in which the actions are nearly as good as each other
        gains = GAINS.double().numpy()
        seen -= 0.995 * np.outer(seen @ gains, gains) / (gains @ gains)
    seen = seen.astype(np.float32)
    written = export_c(policy, tmp_path / "student.c", calibration=seen)
    assert f"weights of {weight_bits} bits" in written.notes
    text = (tmp_path / "student.c").read_text()
    assert f"{written.constant_bytes:,} bytes of constants" in text
    assert checked(tmp_path / "student.c", policy, seen).greedy_agreement >= 0.99


@needs_compiler
def test_small_states_are_told_apart(tmp_path):
    policy, rng = cartpole_teacher("q_values"), np.random.default_rng(0)
    seen = (rng.normal(size=(1000, 4)) * [1.0, 1.0, 0.05, 0.5]).astype(np.float32)
    export_c(policy, tmp_path / "student.c", calibration=seen)
    for size in (1.0, 0.1, 0.02):
        check = checked(tmp_path / "student.c", policy, seen * np.float32(size))
        assert check.greedy_agreement >= 0.99


@needs_compiler
def test_q_values_that_differ_by_hundredths_of_50_are_told_apart(tmp_path):
    policy = policy_of("elu, some entries")
    observations = observations_for(policy, 400)
    with torch.no_grad():
        policy.network.head.weight.mul_(0.01).add_(2.0)
        policy.network.head.bias.add_(50.0)
    export_c(policy, tmp_path / "student.c", calibration=observations)
    assert checked(tmp_path / "student.c", policy, observations).greedy_agreement >= 0.99


@needs_compiler
def test_the_worst_sums_fit_into_32_bits():
    spec = {
        "name": "wide",
        "network": {"name": "mlp", "hidden": (3_000, 8)},
        "observation": {"shape": (2,), "dtype": "float32"},
        "num_actions": 2,
    }
    policy = new_policy(PolicySpec.model_validate(spec), seed=0)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.fill_(1.0)
    observations = np.ones((2, 2), np.float32) * [[0.9], [1.0]]
    observations = observations.astype(np.float32)
    network = in_whole_numbers(policy, observations)
    second = network.layers[1]
    worst = np.abs(second.weights.astype(np.int64)).sum(1) * network.layers[0].limit
    assert 0.99 * LARGEST_SUM < (worst + np.abs(second.biases.astype(np.int64))).max() < 2**31
    flags = [*FLAGS, "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    text = c_source(network, policy.spec).text
    with compiled(text, find_compiler(), flags) as program:
        assert_same(program, network, np.full((1, 2), 1e30, np.float32))


@needs_compiler
def test_a_program_that_does_not_compile_is_refused(exported):
    with pytest.raises(RunFailedError, match="cannot compile the program"):
        CLibrary(exported.source.text.replace("int32_t sum", "int sun"), 2)


@needs_compiler
def test_another_policys_program_is_not_like_this_one(tmp_path):
    policy, other = policy_of("vectors"), policy_of("vectors", seed=1)
    observations = observations_for(policy, 300)
    export_c(other, tmp_path / "student.c", calibration=observations)
    check = checked(tmp_path / "student.c", policy, observations)
    assert check.greedy_agreement < 0.9
    assert not check.suffices(EXPORT_FORMATS["c"].limits["int8"])


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert EXPORT_FORMATS["c"].lacks() == "no C compiler here"
    with pytest.raises(RunFailedError, match="no C compiler here"):
        CLibrary("", 2)


UNSUPPORTED = {
    "programs are of mlp and nature_cnn": {"network": {"name": "lstm"}},
    "its network is impala_cnn": {
        "network": {"name": "impala_cnn", "channels": (2,)},
        "observation": {"shape": (2, 16, 14), "dtype": "uint8"},
    },
    "programs take bytes": {
        "network": {"name": "nature_cnn", "channels": (2,), "kernels": (3,), "strides": (2,)},
        "observation": {"shape": (2, 16, 14), "dtype": "float32"},
    },
    "gsde": {
        "network": {"name": "mlp", "gsde": {}},
        "action_box": {"low": (-1.0,), "high": (1.0,)},
        "num_actions": None,
        "dist": "gaussian",
    },
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_what_no_program_can_be_of_is_refused(reason, tmp_path):
    plain = {"observation": {"shape": (4,), "dtype": "float32"}, "num_actions": 3}
    spec = {"name": "other"} | plain | UNSUPPORTED[reason]
    policy = new_policy(PolicySpec.model_validate(spec), seed=0)
    with pytest.raises(MismatchError, match=f"{reason}.*export it as onnx"):
        export_c(policy, tmp_path / "student.c", calibration=np.zeros((2, 4), np.float32))
    assert not list(tmp_path.iterdir())


def test_observations_that_do_not_fit_are_refused(tmp_path):
    policy = policy_of("vectors")
    for wrong in (np.zeros((0, 4), np.float32), np.zeros((2, 5), np.float32), np.zeros((2, 4))):
        with pytest.raises(MismatchError, match=r"takes float32 \('M', 4\)"):
            export_c(policy, tmp_path / "student.c", calibration=wrong)


def test_a_failed_export_leaves_the_former_file_whole(tmp_path):
    path = tmp_path / "student.c"
    path.write_bytes(b"former")
    (tmp_path / "student.c.partial").symlink_to("/dev/full")
    policy = policy_of("vectors")
    with pytest.raises(StorageError, match="No space left on device"):
        export_c(policy, path, calibration=observations_for(policy, 10))
    assert path.read_bytes() == b"former"
