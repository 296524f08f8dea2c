"""Sizes and training by name, one file each: what `--preset` sets where nothing else is said.

A file's first line says what it is. `VALUES` are values of fields of `Settings`, and of options that click models have;
a model without such an option does not see them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from embpress.kernels import found


def presets() -> dict[str, dict[str, Any]]:
    """The values of each preset by its name."""
    return {name: dict(module.VALUES) for name, module in found.modules(__name__).items()}


def about() -> dict[str, str]:
    """What each preset is, by its name, in half a sentence."""
    texts = {name: ast.get_docstring(found.tree(__name__, name)) or name for name in found.names(__name__)}
    return {name: text.splitlines()[0].rstrip(".") for name, text in texts.items()}


def default_text(name: str, default: Any, own: Mapping[str, Any] | None = None) -> str:
    """`[default: 0.02; kaggle: 0.1; terabyte: 1]`: a default, and those of the presets that set another.

    `own` are values that go before those of the presets.
    """
    others: dict[str, list[str]] = {}
    for preset, values in presets().items():
        value = (own or {}).get(preset, values.get(name, default))
        if value != default:
            others.setdefault(_text(value), []).append(preset)
    parts = [_text(default), *(f"{', '.join(names)}: {text}" for text, names in others.items())]
    return f"[default: {'; '.join(parts)}]"


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
