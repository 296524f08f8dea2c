"""A `torch.export` program of a served model in torch's own ops, for batches of any size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export import Dim, ExportedProgram

from embpress.compressors.errors import InputError
from embpress.dlrm.export.served import Inputs, Served
from embpress.kernels import portable

NAMESPACE = "embpress"


def dynamic_shapes(inputs: Inputs) -> tuple[Any, ...]:
    """Which dimensions vary: the batch, and how many ids the bags of each feature hold together."""
    batch = Dim("batch")
    shapes: tuple[Any, ...] = ({0: batch}, {0: batch})
    if len(inputs) == 2:
        return shapes
    return *shapes, [({0: Dim(f"values_{i}")}, {0: batch}) for i in range(len(inputs[2]))]


def program_of(served: Served, inputs: Inputs) -> ExportedProgram:
    """The program; it needs torch alone.

    Args:
        served: in eval mode, on the CPU.
        inputs: an example of at least two samples.

    Raises:
        InputError: something of the model cannot be traced, or an op of ours has no portable form; names it.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(served, inputs, dynamic_shapes=dynamic_shapes(inputs))
        except Exception as error:
            raise InputError(f"torch.export cannot trace the model: {_first_line(error)}") from error
        ours = _ours(program)
        forms = {op: getattr(portable, name, None) for name, op in ours.items()}
        missing = [name for name, op in ours.items() if forms[op] is None]
        if missing:
            raise InputError(f"no program in torch's own ops: {', '.join(missing)} has no portable form")
        try:
            return program.run_decompositions(forms) if forms else program
        except Exception as error:
            raise InputError(f"no program in torch's own ops for {', '.join(ours)}: {_first_line(error)}") from error


def _ours(program: ExportedProgram) -> dict[str, OpOverload]:
    """Our ops in a program, by name."""
    targets = [node.target for node in program.graph.nodes if isinstance(node.target, OpOverload)]
    ours = {op._schema.name.partition("::")[2]: op for op in targets if op.namespace == NAMESPACE}
    return dict(sorted(ours.items()))


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
