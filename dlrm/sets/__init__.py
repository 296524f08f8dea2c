"""Sets of methods, one file each: its docstring says what is in it, `METHODS` holds the specs, each used as it is best.

A set's name stands wherever a list of methods does, among others: `baselines,robe:z=8`.
"""

from __future__ import annotations

import ast
from importlib import import_module
from typing import TYPE_CHECKING

from embpress.kernels import found

if TYPE_CHECKING:
    from embpress.compressors import MethodSpec

DEFAULT = "default"  # what is compared where nobody says what


def sets() -> dict[str, str]:
    """What the sets of this folder hold, by name; their files are read and not imported, so that help does not wait."""
    docs = {name: ast.get_docstring(found.tree(__name__, name)) or "" for name in found.names(__name__)}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}


def specs_of(name: str) -> tuple[str, ...]:
    """The specs of a set, as text."""
    return tuple(import_module(f"{__name__}.{name}").METHODS)


def parse_methods(text: str) -> list[MethodSpec]:
    """Reads specs and names of sets, separated by commas, in their order; what sets have in common is there once.

    Raises:
        InputError: see `parse`; nothing at all, or what stands there twice by its own name.
    """
    from embpress.compressors import InputError, available, parse

    parts, known = [part.strip() for part in text.split(",") if part.strip()], sets()
    if not parts:
        raise InputError("no method is given; see embpress list")
    both = sorted(set(known) & set(available()))
    if both:
        raise InputError(f"{both[0]!r} is the name of a method and of a set of methods: one of them must have another")
    asked = [part if part in known else str(parse(part)) for part in parts]
    if len(set(asked)) < len(asked):
        raise InputError(f"{text!r} names the same method twice")
    specs: dict[str, MethodSpec] = {}
    for part in asked:
        for spec in map(parse, specs_of(part) if part in known else [part]):
            specs.setdefault(str(spec), spec)
    return list(specs.values())
