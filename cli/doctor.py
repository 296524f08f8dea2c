"""`embpress doctor`."""

from __future__ import annotations

import click


@click.command(name="doctor")
def command() -> None:
    """Show what is installed, which backends answer, and what is missing."""
    import torch

    from embpress.cli.show import console, table
    from embpress.compressors import available, broken
    from embpress.compressors.full_tbe import available as fbgemm
    from embpress.dlrm.environment import environment
    from embpress.kernels import ops

    found = environment()
    rows = [[name, str(value)] for name, value in found.items() if name != "packages"]
    rows += [[name, version] for name, version in found["packages"].items()]
    rows.append(["CUDA", "available" if torch.cuda.is_available() else "not available: everything runs on the CPU"])
    reason = fbgemm()
    rows.append(["FBGEMM", "imports: the method full-tbe works" if reason is None else f"{reason}: full-tbe is off"])
    for op in ops.NAMES:
        backend = ops.backend(op)
        note = " (plain PyTorch)" if backend == "reference" else ""
        rows.append([f"op {op}", backend + note])
    rows.append(["methods", ", ".join(available())])
    rows += [[f"plug-in {name}", f"broken: {why}"] for name, why in broken().items()]
    console().print(table(["what", "found"], rows, left=(0, 1)))
