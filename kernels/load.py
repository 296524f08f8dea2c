"""Loads the compiled ops where they were built; without them the plain PyTorch ones answer."""

from __future__ import annotations

import importlib
import os

import torch

# Path of another build of the library, such as one with sanitizers.
ENVIRONMENT = "EMBPRESS_LIBRARY"
# CPU vector instructions, from the narrowest to the widest, as numbered by the library.
ISAS = ("plain", "avx2", "avx512")


def load() -> str | None:
    """Registers the native ops and returns None, or says in one sentence why there are none."""
    other = os.environ.get(ENVIRONMENT)
    try:
        if other:
            torch.ops.load_library(other)
        else:
            importlib.import_module("embpress.kernels._C")
    except ModuleNotFoundError:
        return "the native ops are not compiled here: embpress doctor --build does it"
    except (ImportError, OSError) as error:
        return f"the native ops do not load: {error}"
    return None


def isa() -> str | None:
    """The vector instructions that the CPU ops use here (`avx512`, `avx2`, `plain`), or None without native ops.

    The environment variable `EMBPRESS_ISA` set to one of these before the start allows no wider ones.
    """
    if missing is not None:
        return None
    return ISAS[torch.ops.embpress.cpu_isa()]


def scratch_bytes() -> int:
    """Bytes that the native ops hold beside torch's allocator: intermediate results and gradients of large cores, kept
    from step to step, of all threads together."""
    return 0 if missing is not None else torch.ops.embpress.scratch_bytes()


def release_scratch() -> None:
    """Frees the native ops' memory that is not in use; threads free theirs when they run the next time."""
    if missing is None:
        torch.ops.embpress.release_scratch()


missing = load()
