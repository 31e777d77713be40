"""Write a policy as one C file for devices without a runtime, and check it by running it.

`learners.export.integer` puts the network into whole numbers, of as few bits as will do. Vectors of
floats need activations of 16 bits, because what they hold is small as often as large: with 8, two
students of CartPole kept 93 % of their actions and one of LunarLander 69 %.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.errors import RunFailedError
from common.policies.actions import mean_actions
from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.storage import Named, locate
from learners.export.integer.c_compiler import compiled, find_compiler
from learners.export.integer.c_source import CSource, c_source
from learners.export.integer.calibration import calibrate
from learners.export.integer.float_layers import float_network
from learners.export.integer.integer_network import IntegerNetwork, IntegerOutputs
from learners.export.integer.quantisation import Widths, quantise
from learners.export.onnx_export import check_observations

MIN_AGREEMENT = 0.99
"""Share of real observations on which a program must take the policy's greedy action."""
MAX_ACTION_ERROR = 0.01
"""Mean difference of a program's actions of a Box, in halves of their range."""

_WIDTHS = (Widths(8, 8), Widths(8, 16), Widths(12, 16))
"""Tried in turn."""
_ENOUGH = 0.992
"""Agreement at which one will do: more than is asked of the program, which sees other states."""
_ENOUGH_ERROR = 0.005
"""The same for actions of a Box."""
_BATCH = 256


class CExport(NamedTuple):
    """What was written."""

    network: IntegerNetwork
    """What the program computes, in NumPy."""
    source: CSource


class Likeness(NamedTuple):
    """How like its policy a program acts."""

    greedy_agreement: float | None
    """Share of the observations on which both take the same greedy action, where it is discrete."""
    action_error: float | None
    """Mean absolute difference of actions of a Box, in halves of its range."""

    @property
    def good(self) -> bool:
        """Whether the program acts as the policy does."""
        if self.greedy_agreement is not None:
            return self.greedy_agreement >= MIN_AGREEMENT
        return self.action_error is not None and self.action_error <= MAX_ACTION_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class CCheck:
    """What was found by running a program."""

    observations: int
    """On which it ran."""
    likeness: Likeness
    latency_ms: float | None
    """Of a decision, on one thread; None where there is no C compiler: then it is the NumPy
    reference that was compared."""


def write_c(policy: Policy, path: Named, observations: Observations | None) -> str:
    """Write a policy as `export_c` does, check it as `verify_c` does, and return what there is to
    say about it.

    Raises:
        RunFailedError: the program is written, and not like the policy.
    """
    assert observations is not None  # the format says that it needs them
    export = export_c(policy, path, calibration=observations)
    check = verify_c(path, export, policy, observations)
    about = _about(check)
    if not check.likeness.good:
        raise RunFailedError(f"{path}: not like the policy, it {about}")
    source, network = export.source, export.network
    memory = f"{source.constant_bytes:,} bytes of constants, {source.ram_bytes:,} bytes of RAM"
    ran = "no C compiler here to run it, so this is what its reference in NumPy does"
    if check.latency_ms is not None:
        ran = f"{check.latency_ms:.3g} ms a decision on one thread here"
    widths = f"weights of {network.weight_bits} bits, activations of {network.bits}"
    return f"{memory}; {widths}\n{about}\n{ran}"


def export_c(policy: Policy, path: Named, *, calibration: Observations) -> CExport:
    """Write `policy` to `path` as C99, weights inside the file.

    The file appears at once or not at all; an existing one is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: where to write; missing folders are made.
        calibration: [M, *shape] real observations in the spec's dtype, M ≥ 1.

    Raises:
        MismatchError: the policy has parts that cannot be written so, or `calibration` does not
            fit it.
        StorageError: it cannot be written.
    """
    network = _in_whole_numbers(policy, calibration)
    source = c_source(network, policy.spec)
    locate(path).write_text(source.text)
    return CExport(network, source)


def verify_c(path: Named, export: CExport, policy: Policy, observations: Observations) -> CCheck:
    """Compile the file, run it, and compare it with its NumPy reference and with `policy`.

    Args:
        path: of the file.
        export: what `export_c` said of it.
        policy: what the program should do.
        observations: [M, *shape] raw observations in the spec's dtype, M ≥ 1.

    Raises:
        RunFailedError: the compiler refuses the program, or it computes something else than its
            reference.
        MismatchError: `observations` do not fit the policy's spec.
    """
    check_observations(observations, policy.spec)
    answers, latency_ms = export.network(observations), None
    if (compiler := find_compiler()) is not None:
        with compiled(locate(path).read_text(), compiler) as program:
            _check_equal(program(observations), answers)
            latency_ms = program.latency_ms(observations)
    return CCheck(
        observations=len(observations),
        likeness=_likeness(answers, policy, observations),
        latency_ms=latency_ms,
    )


def _in_whole_numbers(policy: Policy, calibration: Observations) -> IntegerNetwork:
    """Return the policy in as few bits as will do.

    It is calibrated on every second observation; what will do is found on the others.
    """
    floats = float_network(policy)
    check_observations(calibration, policy.spec)
    seen = calibrate(floats, calibration[::2])
    others = calibration[len(calibration) > 1 :: 2]
    tried = [widths for widths in _WIDTHS if widths.activations == 16 or floats.fits_bytes]
    for widths in tried:
        network = quantise(floats, seen, policy.spec, widths)
        if widths == tried[-1] or _will_do(_likeness(network(others), policy, others)):
            break
    return network


def _will_do(likeness: Likeness) -> bool:
    agreement, error = likeness
    if agreement is not None:
        return agreement >= _ENOUGH
    return error is not None and error <= _ENOUGH_ERROR


def _likeness(answers: IntegerOutputs, policy: Policy, observations: Observations) -> Likeness:
    said = np.concatenate(list(_outputs(policy, observations)))
    if (box := policy.spec.action_box) is None:
        return Likeness(float((answers.actions == said.argmax(-1)).mean()), None)
    wanted = box.from_units(mean_actions(policy.spec.dist, said))
    return Likeness(None, float((np.abs(answers.scores - wanted) / box.half_range).mean()))


def _outputs(policy: Policy, observations: Observations) -> Iterator[npt.NDArray[np.float32]]:
    inference = InferencePolicy(policy)
    for start in range(0, len(observations), _BATCH):
        batch = observations[start : start + _BATCH]
        yield inference(np.array(batch)).dist_inputs


def _about(check: CCheck) -> str:
    on = f"{check.observations:,} real observations"
    agreement, error = check.likeness
    if agreement is not None:
        return f"takes the policy's greedy action in {100 * agreement:.2f} % of {on}"
    assert error is not None
    return f"differs from the policy's action by {100 * error:.2g} % of half the range on {on}"


def _check_equal(answers: IntegerOutputs, wanted: IntegerOutputs) -> None:
    same = (answers.actions == wanted.actions) & (answers.scores == wanted.scores).all(-1)
    if not same.all():
        raise RunFailedError(
            f"the compiled program says something else than its reference on {(~same).sum():,} of "
            f"{len(same):,} observations; tell us which compiler that was"
        )
