"""What a run ran on: for records and for `embpress doctor`."""

from __future__ import annotations

import platform
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
    """Versions, processor, threads, device: JSON-able."""
    found = {
        "embpress": package("embpress") or "not installed",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_ops": load.isa() or "none",
        "threads": torch.get_num_threads(),
        "packages": {name: found for name in PACKAGES if (found := package(name))},
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found
