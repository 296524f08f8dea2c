"""What folding does modifier by modifier: tables served with some of the modifiers that `fold()` alone applies."""

from __future__ import annotations

from collections.abc import Iterable

from embpress.compressors.base import Compressor
from embpress.compressors.group import TableGroup
from embpress.compressors.modifiers.base import Modifier, ModifierGroup


def fold_steps(tables: Iterable[Compressor]) -> list[tuple[str, int]]:
    """The steps from trained tables to served ones, from the inside out; none where folding changes no lookup.

    Each step applies one more of the outermost modifiers that `fold()` alone applies. Those that a modifier of training
    wraps cannot be left out by themselves: they are one step, the first.

    Returns:
        What the step applies, as written in a spec, tables that differ separated by commas; and how many of each
        table's outermost modifiers are applied by then, for `folded` and `folded_group`.
    """
    inner: dict[str, None] = {}
    outer: list[dict[str, None]] = []
    for table in tables:
        layers = _layers(table)
        count = _outermost(layers)
        inside = [layer.modifiers[-1] for layer in reversed(layers[count:])]
        if any(layer.at_fold for layer in layers[count:]):
            inner["+".join(inside)] = None
        for step, layer in enumerate(reversed(layers[:count])):
            if step == len(outer):
                outer.append({})
            outer[step][layer.modifiers[-1]] = None
    steps = [(", ".join(texts), step) for step, texts in enumerate(outer, 1)]
    return [(", ".join(inner), 0), *steps] if inner else steps


def folded(table: Compressor, steps: int | None = None) -> Compressor:
    """The table to serve, with so many of its outermost modifiers that `fold()` alone applies, from the inside out."""
    for _ in range(_left_out(table, steps)):
        table = _layers(table)[0].table
    return table.fold()


def folded_group(group: TableGroup, steps: int | None = None) -> TableGroup | list[Compressor]:
    """What serves the tables of a group: see `folded` and `TableGroup.fold`."""
    left_out = _left_out(group.first, steps)
    while left_out and isinstance(group, ModifierGroup):
        group, left_out = group.inner, left_out - 1
    return [folded(table, steps) for table in group.tables] if left_out else group.fold()


def _layers(table: Compressor) -> list[Modifier]:
    """The modifiers of a table, the outermost first."""
    layers: list[Modifier] = []
    while isinstance(table, Modifier):
        layers.append(table)
        table = table.table
    return layers


def _outermost(layers: list[Modifier]) -> int:
    """How many of the outermost modifiers `fold()` alone applies."""
    return next((k for k, layer in enumerate(layers) if not layer.at_fold), len(layers))


def _left_out(table: Compressor, steps: int | None) -> int:
    return 0 if steps is None else max(0, _outermost(_layers(table)) - steps)
