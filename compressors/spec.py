"""Specs: a method with its knobs and modifiers as text, such as `tt:rank=16` and `robe:z=32:ratio=1000+bf16`."""

from __future__ import annotations

import hashlib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.guard import INT64_MAX, shown, whole
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.registry import method, modifier
from embpress.compressors.tags import Tags


@dataclass(frozen=True)
class ModifierSpec:
    """A modifier and its knobs."""

    name: str
    knobs: dict[str, Any] = field(default_factory=dict)

    @property
    def cls(self) -> type[Modifier]:
        """The modifier's class."""
        return modifier(self.name)

    def __str__(self) -> str:
        return _text(self.name, self.knobs)


@dataclass(frozen=True)
class MethodSpec:
    """A method with its knobs and modifiers.

    Attributes:
        name: the registered name.
        knobs: keywords of the class.
        ratio: full bytes / serving bytes asked for, modifiers included, or None.
        budget: serving bytes asked for, modifiers included, or None.
        modifiers: what wraps the method, from the inside out.
    """

    name: str
    knobs: dict[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    budget: int | None = None
    modifiers: tuple[ModifierSpec, ...] = ()

    @property
    def cls(self) -> type[Compressor]:
        """The method's class."""
        return method(self.name)

    @property
    def tags(self) -> Tags:
        """What the method can do."""
        return self.cls.tags

    @property
    def plain(self) -> bool:
        """Whether tables of it are plain ones, the baseline of all others."""
        return self.tags.plain and not self.modifiers

    @property
    def baseline(self) -> bool:
        """Whether it is what people have already: plain tables of one kind or another, in few bits or not."""
        return self.tags.baseline and all(one.cls.baseline for one in self.modifiers)

    @property
    def fixes_size(self) -> bool:
        """Whether a knob already decides the size."""
        return any(knob in self.knobs for knob in self.cls.size_knobs)

    @property
    def sizable(self) -> bool:
        """Whether a ratio or a budget changes anything: the method can choose its size, and no knob has fixed it."""
        return not self.fixes_size and (self.tags.for_budget or self.tags.saves_by_width)

    @property
    def content(self) -> str | None:
        """A hash of what the text refers to and does not say itself; None where it says everything."""
        return None

    def tuned_knobs(self, embedding_dim: int) -> dict[str, tuple[Any, ...]]:
        """The knobs of the method that have to be tuned, but for those that the spec says: see `Compressor`."""
        known = self.cls.tuned_knobs(embedding_dim, **self.knobs)
        return {name: values for name, values in known.items() if name not in self.knobs}

    def wrap(self, table: Compressor) -> Compressor:
        """The modifiers around a table of the method."""
        for one in self.modifiers:
            table = one.cls(table, **one.knobs)
        return table

    def __str__(self) -> str:
        size: dict[str, Any] = {} if self.ratio is None else {"ratio": repr(float(self.ratio)).removesuffix(".0")}
        size |= {} if self.budget is None else {"budget": self.budget}
        return "+".join([_text(self.name, {**self.knobs, **size}), *map(str, self.modifiers)])


# tables that stay as they are
PLAIN = MethodSpec("full")


@dataclass(frozen=True)
class PlanFile(MethodSpec):
    """`plan:FILE`: stands where a method may stand, and says everything of every table itself.

    Attributes:
        path: of the file, see `Plan.read`.
    """

    name: str = "plan"
    path: str = ""

    @property
    def cls(self) -> type[Compressor]:
        """There is not one.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self} says what each table of a model uses; it is not one method")

    @property
    def tags(self) -> Tags:
        """None that holds for all tables."""
        return Tags()

    @property
    def fixes_size(self) -> bool:
        """True."""
        return True

    def tuned_knobs(self, embedding_dim: int) -> dict[str, tuple[Any, ...]]:
        """None: the file says them."""
        return {}

    @property
    def content(self) -> str:
        """A hash of the file."""
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:10]

    def __str__(self) -> str:
        return f"{self.name}:{self.path}"


def _text(name: str, knobs: dict[str, Any]) -> str:
    shown = {k: "x".join(map(str, v)) if isinstance(v, tuple) else v for k, v in knobs.items()}
    return ":".join([name, *(f"{key}={value}" for key, value in shown.items())])


def parse(text: str) -> MethodSpec:
    """Reads `name[:knob=value]…[+modifier[:knob=value]…]…`, or `plan:FILE`.

    `ratio` and `budget` count the whole expression; they may stand with the method or with a modifier.

    Raises:
        InputError: no such method, modifier or knob (with the nearest name), or a value of the wrong type.
    """
    if text.strip().startswith("plan:"):
        path = text.strip().removeprefix("plan:")
        if not Path(path).is_file():
            raise InputError(f"no such plan: {path}")
        return PlanFile(path=path)
    size: dict[str, float] = {}
    first, *rest = text.strip().split("+")
    name, knobs = _named(text, first, size, method)
    modifiers = tuple(ModifierSpec(*_named(text, part, size, modifier)) for part in rest)
    if len({one.name for one in modifiers}) < len(modifiers):
        raise InputError(f"{text!r} has the same modifier twice")
    ratio, budget = size.get("ratio"), size.get("budget")
    return MethodSpec(name, knobs, ratio, None if budget is None else int(budget), modifiers)


def _named(
    text: str, part: str, size: dict[str, float], find: typing.Callable[[str], Any]
) -> tuple[str, dict[str, Any]]:
    """The name and the knobs of one part of a spec; a ratio or a budget goes into `size`."""
    name, *settings = part.strip().split(":")
    cls = find(name)
    knobs: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not value:
            raise InputError(f"{text!r}: a knob is written name=value, got {setting!r}")
        if key in ("ratio", "budget"):
            if size:
                raise InputError(f"{text!r}: give a ratio or a budget, not both, and once")
            size[key] = as_ratio(value) if key == "ratio" else as_bytes(value)
        else:
            knobs[key] = typed(name, cls, key, value)
    return name, knobs


def parse_all(text: str) -> list[MethodSpec]:
    """Reads specs separated by commas."""
    return [parse(part) for part in text.split(",") if part.strip()]


def as_ratio(value: str | float) -> float:
    """A compression ratio: at least 1."""
    try:
        ratio = float(value)
    except (ValueError, OverflowError):
        raise InputError(f"a ratio is a number such as 16, got {shown(value)}") from None
    if not 1 <= ratio < float("inf"):
        raise InputError(f"a ratio is full bytes / serving bytes and at least 1, got {shown(value)}")
    return ratio


def as_bytes(value: str | int) -> int:
    """A size in bytes: `1500000`, `1500k`, `1.5M`, `2G` (powers of 1000; a trailing `B` is allowed)."""
    text = (value if isinstance(value, str) else f"{value:d}").strip().upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1:], 1)
    try:
        size = int(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise InputError(f"a budget is a number of bytes such as 1500000, 1500k or 1.5M, got {shown(value)}") from None
    if not 1 <= size < 2**63:
        raise InputError(f"a budget is at least one byte and below 2^63, got {shown(value)}")
    return size


def typed(name: str, cls: type[Compressor], key: str, value: str) -> Any:
    """Converts a knob's text by the annotation of the keyword."""
    known = cls.knob_names()
    if key not in known:
        raise InputError(f"{name!r} has no knob {key!r}{nearest(key, known) or '; it has none'}")
    # without an annotation the default says what the knob takes
    hint = typing.get_type_hints(cls.__init__).get(key, type(known[key].default))
    kinds = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    for kind in kinds:
        if kind is int and value.removeprefix("-").isdigit():
            return whole(value, f"{name}: the knob {key!r}", -INT64_MAX)
        try:
            if kind is bool:
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            if kind in (float, str):
                return kind(value)
            if typing.get_origin(kind) is tuple and "x" in value:
                return tuple(whole(part, key, -INT64_MAX) for part in value.split("x"))
        except (ValueError, KeyError):
            continue
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds if kind is not type(None))
    raise InputError(f"{name}: the knob {key!r} takes {names}, got {shown(value)}")
