"""Write a policy as one C file for devices without a runtime.

`learners.export.integer` puts the network into whole numbers, of as few bits as will do. Vectors of
floats need activations of 16 bits, because what they hold is small as often as large: with 8, two
students of CartPole kept 93 % of their actions and one of LunarLander 69 %.
"""

from common.policies.inference import Observations
from common.policies.policy import Policy
from common.storage import Named, locate
from learners.export.c_run import run_program
from learners.export.check import Limits, check_observations, compare
from learners.export.integer.c_source import c_source
from learners.export.integer.calibration import calibrate
from learners.export.integer.float_layers import float_network
from learners.export.integer.integer_network import IntegerNetwork
from learners.export.integer.quantisation import Widths, quantise
from learners.export.written import Written

_WIDTHS = (Widths(8, 8), Widths(8, 16), Widths(12, 16))
"""Tried in turn."""
_ENOUGH = Limits(0.992, 0.005)
"""At which widths will do: more than is asked of the program, which sees other states."""


def export_c(policy: Policy, path: Named, *, calibration: Observations) -> Written:
    """Write `policy` to `path` as C99, weights inside the file, and return what it takes and holds.

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
    network = in_whole_numbers(policy, calibration)
    source = c_source(network, policy.spec)
    locate(path).write_text(source.text)
    memory = f"{source.constant_bytes:,} bytes of constants, {source.ram_bytes:,} bytes of RAM"
    bits = f"weights of {network.weight_bits} bits, activations of {network.bits}"
    return Written(notes=f"{memory}; {bits}", constant_bytes=source.constant_bytes)


def in_whole_numbers(policy: Policy, calibration: Observations) -> IntegerNetwork:
    """Return what the program of a policy computes, in as few bits as will do.

    It is calibrated on every second observation; what will do is found on the others. For
    arguments and errors see `export_c`.
    """
    floats = float_network(policy)
    check_observations(calibration, policy.spec)
    seen = calibrate(floats, calibration[::2])
    others = calibration[len(calibration) > 1 :: 2]
    tried = [widths for widths in _WIDTHS if widths.activations == 16 or floats.fits_bytes]
    for widths in tried:
        network = quantise(floats, seen, policy.spec, widths)
        if widths == tried[-1]:
            break
        if compare(run_program(network, policy), policy, others).suffices(_ENOUGH):
            break
    return network
