"""Methods and modifiers by name: registration, what lies in their folders, plug-ins of other packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.modifiers.base import Modifier
from embpress.kernels import found

T = TypeVar("T", bound=Compressor)
C = TypeVar("C", bound=type[Compressor])


class Registry(Generic[T]):
    """Classes of one kind by their names.

    Args:
        kind: what a message calls them.
        base: what every one of them is.
        package: the folder that holds them; each module in it is imported once and registers itself.
        group: entry point group through which other packages add theirs.
        attribute: of a class, that is set to its name.
    """

    def __init__(self, kind: str, base: type[T], package: str, group: str, attribute: str) -> None:
        self.kind, self.base, self.package, self.group, self.attribute = kind, base, package, group, attribute
        self.known: dict[str, type[T]] = {}
        self.broken: dict[str, str] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: makes a class known as `name` to specs, commands, reports and the conformance suite.

        Raises:
            InputError: the name is taken by another class, or no lower-case word.
        """

        def decorate(cls: C) -> C:
            if not name.replace("-", "").replace("_", "").isalnum() or name != name.lower():
                raise InputError(f"a {self.kind}'s name is a lower-case word, got {name!r}")
            taken = self.known.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise InputError(f"the {self.kind} name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
            setattr(cls, self.attribute, name)
            self.known[name] = cls  # type: ignore[assignment]
            return cls

        return decorate

    def plug_ins(self) -> dict[str, EntryPoint]:
        """Entry points of other packages by name."""
        return {point.name: point for point in entry_points(group=self.group)}

    def _discover(self) -> None:
        """Imports every module in the folder; of one that does not load the reason is shown where it is asked for."""
        found.modules(self.package, self.broken)

    def _load(self, name: str) -> None:
        """Imports the plug-in `name`; one that does not load is remembered as broken."""
        if name in self.known or name in self.broken:
            return
        point = self.plug_ins().get(name)
        if point is None:
            return
        try:
            loaded = point.load()
            if not (inspect.isclass(loaded) and issubclass(loaded, self.base)):
                raise TypeError(f"{point.value} is no {self.base.__name__}")
            if name not in self.known:
                self.register(name)(loaded)
        except Exception as error:
            self.broken[name] = f"{type(error).__name__}: {error}"

    def names(self) -> list[str]:
        """Names of all that load, built in and plugged in."""
        self._discover()
        for name in self.plug_ins():
            self._load(name)
        return sorted(self.known)

    def get(self, name: str) -> type[T]:
        """The class registered as `name`.

        Raises:
            InputError: there is none (with the nearest name), or a plug-in that does not load.
        """
        self._discover()
        self._load(name)
        if name in self.broken:
            raise InputError(f"the {self.kind} {name!r} does not load: {self.broken[name]}")
        if name not in self.known:
            raise InputError(f"no {self.kind} {name!r}{nearest(name, [*self.known, *self.plug_ins()])}")
        return self.known[name]


METHODS: Registry[Compressor] = Registry(
    "method", Compressor, "embpress.compressors.methods", "embpress.compressors", "spec_name"
)
MODIFIERS: Registry[Modifier] = Registry(
    "modifier", Modifier, "embpress.compressors.modifiers", "embpress.modifiers", "modifier_name"
)


def register(name: str) -> Callable[[C], C]:
    """Class decorator: makes a `Compressor` the method `name`; see `Registry.register`."""
    return METHODS.register(name)


def register_modifier(name: str) -> Callable[[C], C]:
    """Class decorator: makes a `Modifier` the modifier `name`; see `Registry.register`."""
    return MODIFIERS.register(name)


def available() -> list[str]:
    """Names of all methods that load, built in and plugged in."""
    return METHODS.names()


def broken() -> dict[str, str]:
    """Files and plug-ins that do not load, methods and modifiers, with the reason."""
    METHODS.names()
    MODIFIERS.names()
    return METHODS.broken | MODIFIERS.broken


def method(name: str) -> type[Compressor]:
    """The method registered as `name`; InputError where there is none."""
    return METHODS.get(name)


def modifier(name: str) -> type[Modifier]:
    """The modifier registered as `name`; InputError where there is none."""
    return MODIFIERS.get(name)
