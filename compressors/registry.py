"""Methods by name: registration, discovery of plug-ins, specs such as `tt:rank=16`, and `create`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from embpress.compressors.base import REFUSED, Compressor, TableOptions
from embpress.compressors.errors import BudgetError, InputError, nearest

ENTRY_POINTS = "embpress.compressors"
_methods: dict[str, type[Compressor]] = {}
_broken: dict[str, str] = {}
T = TypeVar("T", bound=type[Compressor])


def register(name: str) -> Callable[[T], T]:
    """Class decorator: makes a `Compressor` known as `name` to specs, commands, reports and the conformance suite.

    Raises:
        InputError: the name is taken by another class, or no lower-case word.
    """

    def decorate(cls: T) -> T:
        if not name.replace("-", "").replace("_", "").isalnum() or name != name.lower():
            raise InputError(f"a method's name is a lower-case word, got {name!r}")
        taken = _methods.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InputError(f"the method name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
        cls.spec_name = name
        _methods[name] = cls
        return cls

    return decorate


@cache
def _discover() -> None:
    """Imports every module of `methods/` once: a method's file registers itself, no list names it."""
    package = importlib.import_module("embpress.compressors.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load(name: str) -> None:
    """Imports the plug-in `name`; one that does not load is remembered as broken."""
    if name in _methods or name in _broken:
        return
    point = _plug_ins().get(name)
    if point is None:
        return
    try:
        loaded = point.load()
        if not (inspect.isclass(loaded) and issubclass(loaded, Compressor)):
            raise TypeError(f"{point.value} is no Compressor")
        if name not in _methods:
            register(name)(loaded)
    except Exception as error:
        _broken[name] = f"{type(error).__name__}: {error}"


def available() -> list[str]:
    """Names of all methods that load, built in and plugged in."""
    _discover()
    for name in _plug_ins():
        _load(name)
    return sorted(_methods)


def broken() -> dict[str, str]:
    """Plug-ins that do not load, with the reason."""
    available()
    return dict(_broken)


def method(name: str) -> type[Compressor]:
    """The class registered as `name`.

    Raises:
        InputError: no such method (with the nearest name), or a plug-in that does not load.
    """
    _discover()
    _load(name)
    if name in _broken:
        raise InputError(f"the plug-in {name!r} does not load: {_broken[name]}")
    if name not in _methods:
        raise InputError(f"no method {name!r}{nearest(name, [*_methods, *_plug_ins()])}")
    return _methods[name]


@dataclass(frozen=True)
class MethodSpec:
    """A method and its knobs, as in `robe:z=32:ratio=1000`.

    Attributes:
        name: the registered name.
        knobs: keywords of the class.
        ratio: full bytes / serving bytes asked for, or None.
        budget: serving bytes asked for, or None.
    """

    name: str
    knobs: dict[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    budget: int | None = None

    @property
    def cls(self) -> type[Compressor]:
        """The method's class."""
        return method(self.name)

    @property
    def fixes_size(self) -> bool:
        """Whether a knob already decides the size."""
        return any(knob in self.knobs for knob in self.cls.size_knobs)

    def __str__(self) -> str:
        parts = [self.name, *(f"{k}={_show(v)}" for k, v in self.knobs.items())]
        if self.ratio is not None:
            parts.append(f"ratio={repr(float(self.ratio)).removesuffix('.0')}")
        if self.budget is not None:
            parts.append(f"budget={self.budget}")
        return ":".join(parts)


def _show(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parse(text: str) -> MethodSpec:
    """Reads `name[:knob=value]…`.

    Raises:
        InputError: no such method or knob (with the nearest name), or a value of the wrong type.
    """
    name, *parts = text.strip().split(":")
    cls = method(name)
    knobs: dict[str, Any] = {}
    size: dict[str, float] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise InputError(f"{text!r}: a knob is written name=value, got {part!r}")
        if key == "ratio":
            size[key] = as_ratio(value)
        elif key == "budget":
            size[key] = as_bytes(value)
        else:
            knobs[key] = _typed(cls, key, value)
    if len(size) == 2:
        raise InputError(f"{text!r}: give a ratio or a budget, not both")
    ratio, budget = size.get("ratio"), size.get("budget")
    return MethodSpec(name, knobs, ratio, None if budget is None else int(budget))


def parse_all(text: str) -> list[MethodSpec]:
    """Reads specs separated by commas."""
    return [parse(part) for part in text.split(",") if part.strip()]


def as_ratio(value: str | float) -> float:
    """A compression ratio: at least 1."""
    try:
        ratio = float(value)
    except ValueError:
        raise InputError(f"a ratio is a number such as 16, got {value!r}") from None
    if not 1 <= ratio < float("inf"):
        raise InputError(f"a ratio is full bytes / serving bytes and at least 1, got {value}")
    return ratio


def as_bytes(value: str | int) -> int:
    """A size in bytes: `1500000`, `1500k`, `1.5M`, `2G` (powers of 1000; a trailing `B` is allowed)."""
    text = str(value).strip().upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1:], 1)
    try:
        size = int(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise InputError(f"a budget is a number of bytes such as 1500000, 1500k or 1.5M, got {value!r}") from None
    if size < 1:
        raise InputError(f"a budget is at least one byte, got {value!r}")
    return size


def _typed(cls: type[Compressor], key: str, value: str) -> Any:
    """Converts a knob's text by the annotation of the keyword."""
    known = cls.knob_names()
    if key not in known:
        raise InputError(f"{cls.spec_name!r} has no knob {key!r}{nearest(key, known) or '; it has none'}")
    # without an annotation the default says what the knob takes
    hint = typing.get_type_hints(cls.__init__).get(key, type(known[key].default))
    kinds = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    errors = (ValueError, KeyError)
    for kind in kinds:
        try:
            if kind is bool:
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            if kind in (int, float, str):
                return kind(value)
            if typing.get_origin(kind) is tuple and "x" in value:
                return tuple(int(part) for part in value.split("x"))
        except errors:
            continue
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds if kind is not type(None))
    raise InputError(f"{cls.spec_name}: the knob {key!r} takes {names}, got {value!r}")


def create(spec: str | MethodSpec, num_embeddings: int, embedding_dim: int, **options: Any) -> Compressor:
    """Makes one table.

    Args:
        spec: such as `"tt:rank=32"` or `"robe:ratio=100"`; ratio and budget count this table's bytes.
        num_embeddings: rows `n`.
        embedding_dim: width `D`.
        **options: more of the method's keywords, `ratio` or `budget`, and those of `TableOptions` (mode, padding_idx,
            dtype, generator, …).

    Raises:
        InputError: an unknown method, knob or keyword. BudgetError: a size that cannot be reached.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    cls = spec.cls
    for name, default in REFUSED.items():
        value = options.pop(name, None)
        if value is not None and value != default:
            raise InputError(f"{name} is not supported by compressed tables")
    if "ratio" in options:
        spec = replace(spec, ratio=as_ratio(options.pop("ratio")), budget=None)
    if "budget" in options:
        spec = replace(spec, budget=as_bytes(options.pop("budget")), ratio=None)
    standard = set(TableOptions.__annotations__)
    for name in options:
        if name not in standard and name not in cls.knob_names():
            raise InputError(f"{spec.name!r} has no keyword {name!r}{nearest(name, [*cls.knob_names(), *standard])}")
    own = {name: value for name, value in options.items() if name not in standard}
    return cls(
        num_embeddings,
        embedding_dim,
        **sized_knobs(
            MethodSpec(spec.name, {**spec.knobs, **own}, spec.ratio, spec.budget), num_embeddings, embedding_dim
        ),
        **cast(TableOptions, {name: value for name, value in options.items() if name in standard}),
    )


def sized_knobs(spec: MethodSpec, num_embeddings: int, embedding_dim: int) -> dict[str, Any]:
    """The spec's knobs with the ratio or budget of one table turned into the knobs that reach it."""
    if spec.fixes_size or (spec.ratio is None and spec.budget is None):
        return dict(spec.knobs)
    full = 4 * num_embeddings * embedding_dim
    budget = spec.budget if spec.budget is not None else int(full / cast(float, spec.ratio))
    return for_budget(spec.cls, num_embeddings, embedding_dim, budget, spec.knobs)


def for_budget(cls: type[Compressor], n: int, dim: int, size: int, fixed: dict[str, Any]) -> dict[str, Any]:
    """Calls the method's `for_budget`, where it has one.

    Raises:
        BudgetError: too small for this table. InputError: a method whose size at a fixed width cannot be chosen.
    """
    solve = getattr(cls, "for_budget", None)
    if solve is None:
        if 4 * n * dim <= size:
            return dict(fixed)
        raise InputError(
            f"{cls.spec_name} has one size at a fixed width, {4 * n * dim} bytes here: no ratio or budget can change it"
        )
    return {**fixed, **solve(n, dim, size, **fixed)}


def smallest_bytes(cls: type[Compressor], n: int, dim: int, fixed: dict[str, Any]) -> int:
    """The smallest serving size the method can reach for one table, in bytes."""
    try:
        for_budget(cls, n, dim, 0, fixed)
    except BudgetError as error:
        return error.smallest
    return 0
