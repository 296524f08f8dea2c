"""`embpress doctor`."""

from __future__ import annotations

import click


@click.command(name="doctor")
@click.option("--build", is_flag=True, help="Compile the native ops first, in place.")
def command(build: bool) -> None:
    """Show what is installed, which backends answer, and what is missing.

    \b
    Examples:
      embpress doctor
      embpress doctor --build        compile the native ops (needs a C++ compiler)
    """
    if build:
        _compile()
    import torch

    from embpress.cli.show import console, table
    from embpress.compressors import available, broken
    from embpress.compressors.registry import method
    from embpress.dlrm.data.formats import formats
    from embpress.dlrm.measure.environment import environment
    from embpress.dlrm.models.base import models
    from embpress.kernels import load, ops

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    about = environment(devices[-1])
    rows = [[name, str(value)] for name, value in about.items() if name != "packages"]
    rows += [[name, version] for name, version in about["packages"].items()]
    if len(devices) == 1:
        rows.append(["CUDA", "not available: everything runs on the CPU"])
    rows.append(["native ops", f"loaded, with {load.isa()} vectors" if load.missing is None else load.missing])
    for op in ops.names():
        answers = {device: ops.backend(op, device) for device in devices}
        rows.append([f"op {op}", "; ".join(_answer(backend, device, devices) for device, backend in answers.items())])
    lacking = {name: reason for name in available() if (reason := method(name).unavailable(devices[-1]))}
    rows.append(["methods", ", ".join(name for name in available() if name not in lacking)])
    rows += [[f"method {name}", f"off: {reason}"] for name, reason in lacking.items()]
    rows.append(["click models", ", ".join(models())])
    rows.append(["data formats", ", ".join(formats())])
    rows += [[f"plug-in {name}", f"broken: {why}"] for name, why in broken().items()]
    console().print(table(["what", "found"], rows, left=(0, 1)))


def _answer(backend: str, device: str, devices: list[str]) -> str:
    text = "reference (plain PyTorch)" if backend == "reference" else backend
    return text if len(devices) == 1 else f"{device}: {text}"


def _compile() -> None:
    """Compiles in a process of its own: this one may have the library loaded already."""
    import subprocess
    import sys
    from importlib.util import find_spec

    spec = find_spec("embpress.kernels.build")
    if spec is None or spec.origin is None:
        raise click.ClickException("this installation holds no sources of the native ops")
    done = subprocess.run([sys.executable, spec.origin], capture_output=True, text=True)
    if done.returncode:
        output = (done.stderr + done.stdout).splitlines()
        lines = [line for line in output if "error" in line.lower()] or ["no reason given"]
        raise click.ClickException(f"the native ops do not compile here: {lines[0].strip()}")
