"""Compiles the CUDA sources for the GPUs of today, without linking or running, and reads what ptxas says of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_report.ptxas import Usage, parse, readable

ARCHITECTURES = ("80", "90")  # A100; H100 and H200
_JOBS = 2


class CompilerError(Exception):
    """A source that does not compile; the message is the compiler's."""


def nvcc() -> str | None:
    """Path of CUDA's compiler, or None."""
    home = os.environ.get("CUDA_HOME")
    beside = [Path(home) / "bin"] if home else []
    search_path = os.pathsep.join(map(str, [*beside, os.environ.get("PATH", ""), Path("/usr/local/cuda/bin")]))
    return shutil.which("nvcc", path=search_path)


def command(compiler: str, source: Path, target: Path, extra: Sequence[str] = ()) -> list[str]:
    """nvcc's command line: one call for all architectures, machine code only."""
    import torch

    from embpress.kernels.build import NVCC_FLAGS

    include = Path(torch.__file__).parent / "include"
    codes = [part for arch in ARCHITECTURES for part in ("-gencode", f"arch=compute_{arch},code=sm_{arch}")]
    return [
        compiler, *NVCC_FLAGS, "-Xcompiler", "-fPIC", f"-I{include}", f"-I{include / 'torch/csrc/api/include'}",
        *codes, "-Xptxas", "-v", *extra, "-c", str(source), "-o", str(target),
    ]  # fmt: skip


def usage_of(source: Path, compiler: str, extra: Sequence[str] = ()) -> list[Usage]:
    """The kernels of one source on every architecture, with readable names.

    Raises:
        CompilerError: it does not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command(compiler, source, Path(folder) / "object.o", extra), capture_output=True, text=True
        )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line] or ["no reason given"]
        raise CompilerError(f"{source.name} does not compile: {lines[0].strip()}")
    return readable(parse(done.stderr + done.stdout))


def usage(sources: Sequence[Path], compiler: str) -> dict[str, list[Usage]]:
    """`usage_of` every source by its name, two compilers at a time."""
    with ThreadPoolExecutor(_JOBS) as pool:
        found = pool.map(lambda source: usage_of(source, compiler), sources)
        return {source.name: own for source, own in zip(sources, found)}
