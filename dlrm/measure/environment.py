"""What a run ran on: for records and for `embpress doctor`."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from embpress.kernels import load

PACKAGES = ("numpy", "pandas", "polars", "torchmetrics", "fbgemm-gpu-cpu", "fbgemm-gpu")


def package(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The CPU's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module knows something
    return platform.processor() or platform.machine()


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, processor, threads, and of a CUDA device its GPU, driver and CUDA version: JSON-able."""
    about = {
        "embpress": package("embpress") or "not installed",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_ops": load.isa() or "none",
        "threads": torch.get_num_threads(),
        "packages": {name: number for name in PACKAGES if (number := package(name))},
    }
    return about | gpu(device) if torch.device(device).type == "cuda" else about


def gpu(device: str) -> dict[str, Any]:
    """Name, compute capability, memory, driver and CUDA version of a CUDA device."""
    properties = torch.cuda.get_device_properties(torch.device(device))
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "gpu_memory_bytes": properties.total_memory,
        "gpu_driver": driver(),
        "cuda": torch.version.cuda,
    }


def driver(path: str = "/proc/driver/nvidia/version") -> str | None:
    """Version of NVIDIA's kernel module, or None where it does not tell."""
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            match = re.search(r"\s(\d+(?:\.\d+)+)\s", lines.readline())
    except OSError:
        return None  # not Linux, or a container that hides it
    return match[1] if match else None
