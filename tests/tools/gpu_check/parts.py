"""What is checked on a device, part by part."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from runner import Part

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "build" / "gpu-check"
LIBRARY = WORK / "library"
TOOLS = ("memcheck", "racecheck", "initcheck")
NO_GPU = "needs a GPU"


def parts(device: str, folder: Path) -> list[Part]:
    """All parts on `cuda`, or on the `cpu` with the device code emulated: what needs a GPU is then skipped.

    Args:
        device: `cpu` or `cuda`.
        folder: where the benchmark and the training runs write.
    """
    gpu = device == "cuda"
    lacks = None if gpu else NO_GPU
    tests = ["tests/kernels/ops"]
    size = [] if gpu else ["--quick"]
    conformance = ["tests/kernels/test_cuda.py", "-k", "conformance"]
    if not gpu:  # the emulated op keeps no partial products, whatever `store` says to the CPU's
        conformance = ["tests/compressors/testing/test_conformance.py", "-k", "not store"]
    return [
        Part("environment", "versions, devices, which backend answers each op", _embpress("doctor"), 60, alone=True),
        Part("build", "the library, compiled here", _build(gpu), 300, _architecture() if gpu else {}, alone=True),
        *(
            Part(
                f"bench-{suite}",
                f"time of the ops of {suite} by graph replay, against baselines and rooflines",
                _embpress("bench", suite, "--device", device, "--cases", cases, *size, "--out", str(folder / "bench")),
                120,
                alone=True,
            )
            for suite, cases in {"tt": "tt-*" if gpu else "train-*,cache-90", "robe": "*"}.items()
        ),
        Part("kernels", "each op against plain PyTorch, gradcheck, opcheck", _pytest(*tests, "--device", device), 300),
        Part(
            "agreement",
            "each op on random shapes against the CPU in float64",
            _pytest("tests/kernels/test_device_agreement.py", "--device", device),
            150,
        ),
        Part(
            "graphs",
            "each op and training steps, captured and replayed, against eager calls",
            _pytest("tests/kernels/test_cuda_graphs.py"),
            150,
            skip=lacks,
        ),
        *(_sanitizer(tool, lacks) for tool in TOOLS),
        Part(
            "training",
            "a short run of each method through the command line",
            [sys.executable, str(HERE / "train.py"), device, str(folder / "training")],
            180,
        ),
        Part("conformance", "the conformance suite on every registered method", _pytest(*conformance), 240),
        Part(
            "harness",
            "whole runs and reports against those of the CPU, in bfloat16 too",
            _pytest("tests/kernels/test_cuda.py", "-k", "not conformance"),
            240,
            skip=lacks,
        ),
    ]


def sanitizer() -> str | None:
    """Path of compute-sanitizer, on the PATH or beside nvcc, or None."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    beside = [str(Path(nvcc).resolve().parent), f"{home}/bin", f"{home}/compute-sanitizer"]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *beside]))


def _sanitizer(tool: str, lacks: str | None) -> Part:
    program = sanitizer()
    reason = lacks or (None if program else "compute-sanitizer is neither on the PATH nor beside nvcc")
    return Part(
        tool,
        f"compute-sanitizer's {tool} over a call of every op",
        [sys.executable, str(HERE / "sanitizer.py"), program or "compute-sanitizer", tool],
        200,
        {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},  # else one large allocation hides where tensors end
        reason,
    )


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def _embpress(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "embpress.cli.main", *arguments]


def _build(gpu: bool) -> list[str]:
    return [sys.executable, "kernels/build.py", *([] if gpu else ["--cuda-on-cpu"]), "--to", str(LIBRARY)]


def _architecture() -> dict[str, str]:
    """Only the GPU that is here: half the time of a build for all."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {"TORCH_CUDA_ARCH_LIST": f"{major}.{minor}"}
