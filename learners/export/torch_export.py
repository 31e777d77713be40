"""Write a policy as a `.pt2` archive of `torch.export`, which torch runs without Stillhouse.

    program = torch.export.load("student.pt2").module()
    program(torch.from_numpy(observations))["action"]

`learners.export.exported_policy` says what goes in and comes out, by name. The `PolicySpec` is in
the archive, so that the file is a teacher without a JSON beside it (`common.programs.torch_export`;
reading any such archive wants trust).
"""

import io

import torch

from common.policies.policy import Policy
from common.programs.torch_export import SPEC_FILE
from common.storage import Location, Named, locate
from learners.export.check import Run, run_module
from learners.export.exported_policy import BATCH_AXIS, ExportedPolicy, example_inputs


def export_torch(policy: Policy, path: Named) -> None:
    """Write `policy` to `path` in float32, with a dynamic batch size, weights inside the file.

    The file appears at once or not at all; an existing one is replaced.

    Args:
        policy: on any device and in any float type; it is left as it was.
        path: where to write; missing folders are made.

    Raises:
        MismatchError: the policy is a program of another runtime.
        StorageError: it cannot be written.
    """
    example = example_inputs(policy)
    batch = torch.export.Dim(BATCH_AXIS)
    module = ExportedPolicy(policy).requires_grad_(False)
    program = torch.export.export(
        module,
        tuple(example.values()),
        dynamic_shapes={name: {0: batch} for name in example},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds source lines and local file paths
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={SPEC_FILE: policy.spec.model_dump_json()})
    locate(path).write_bytes(buffer.getvalue())


def run_torch(location: Location, policy: Policy) -> Run:
    """Return an archive that `export_torch` wrote in torch."""
    return run_module(torch.export.load(io.BytesIO(location.read_bytes())).module())
