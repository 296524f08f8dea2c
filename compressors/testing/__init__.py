"""The public conformance suite: what every compressor promises, as small checks."""

from importlib import import_module
from typing import Any

# where the public names are; the checks are imported with the first of them
_PUBLIC = {
    "CHECKS": "suite",
    "FEATURES": "suite",
    "PROMISES": "suite",
    "Subject": "subject",
    "parametrize_with_checks": "suite",
    "subject_of": "subject",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
