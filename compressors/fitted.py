"""One table near a trained one: made from a spec, its error measured on what is served."""

from __future__ import annotations

import inspect
from typing import Any

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.registry import available, method
from embpress.compressors.sizes import sized_knobs, with_options
from embpress.compressors.spec import MethodSpec, parse
from embpress.compressors.trained_table import DenseRows, relative_error


def from_dense(spec: str | MethodSpec, weight: Any, **options: Any) -> tuple[Compressor, float]:
    """Makes one table near a trained one, by the `from_dense` of the spec's method.

    Args:
        spec: such as `"hash+bf16"` or `"tt:rank=32"`; ratio and budget count this table's bytes, modifiers included.
        weight: `(n, D)` floating point: a tensor, a NumPy array, `np.load(path, mmap_mode="r")`, or anything with
            `shape` whose slices `weight[a:b]` are arrays. It may be larger than memory.
        **options: more of the method's keywords, those of its `from_dense`, `ratio` or `budget`, and those of
            `TableOptions`; device and dtype are the trained table's own by default.

    Returns:
        The table, trainable, with the modifiers around it, and `‖lookups - weight‖ / ‖weight‖` in the Frobenius norm,
        measured on the folded table where there are modifiers.

    Raises:
        InputError: an unknown method, knob or keyword, a method that cannot start from a trained table, or no table.
        BudgetError: a size that cannot be reached.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    check_start(spec)
    start: Any = spec.cls
    taken = [name for name, p in inspect.signature(start.from_dense).parameters.items() if p.kind is p.KEYWORD_ONLY]
    spec, standard = with_options(spec, options, [*spec.cls.knob_names(), *taken])
    if (
        "budget" in taken and not spec.modifiers and not spec.fixes_size
    ):  # it makes more of its bytes where it sees the table
        knobs = {**spec.knobs, "ratio": spec.ratio, "budget": spec.budget}
        knobs = {name: value for name, value in knobs.items() if value is not None}
    else:
        knobs = sized_knobs(spec, *DenseRows(weight).shape)
    table, error = start.from_dense(weight, **knobs, **standard)
    return modified(spec, table, error, weight)


def check_start(spec: MethodSpec) -> None:
    """Raises InputError where the spec's method cannot start from a trained table."""
    if not spec.tags.from_dense:
        able = [name for name in available() if method(name).tags.from_dense]
        raise InputError(f"{spec.name} cannot start from trained weights, only {', '.join(able)} can")


def modified(spec: MethodSpec, table: Compressor, error: float, weight: Any) -> tuple[Compressor, float]:
    """The spec's modifiers around a table near `weight`, and the error as it is served."""
    if not spec.modifiers:
        return table, error
    made = spec.wrap(table)
    if isinstance(made, Modifier):
        made.start_from(DenseRows(weight))
    return made, relative_error(made.fold(), DenseRows(weight))
