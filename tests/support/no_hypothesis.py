"""Stands in for hypothesis where it is not installed: tests that it drives are skipped, all others run."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest


class _Anything:
    """Any strategy, setting or decorator."""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __call__(self, *arguments: Any, **options: Any) -> _Anything:
        return self


def _unchanged(*arguments: Any, **options: Any) -> Any:
    return lambda test: test


def _skipped(*strategies: Any, **named: Any) -> Any:
    return pytest.mark.skip(reason="hypothesis is not installed")


def _member(name: str) -> _Anything:
    if name.startswith("__"):
        raise AttributeError(name)  # what Python itself asks of a module
    return _Anything()


def install() -> None:
    """Puts the stand-in where `import hypothesis` looks first."""
    module, strategies = ModuleType("hypothesis"), ModuleType("hypothesis.strategies")
    module.__dict__.update(given=_skipped, settings=_unchanged, example=_unchanged, strategies=strategies)
    for each in (module, strategies):
        each.__dict__["__getattr__"] = _member
        each.__spec__ = ModuleSpec(each.__name__, None)  # torch asks for it when it compiles
    sys.modules.update({"hypothesis": module, "hypothesis.strategies": strategies})
