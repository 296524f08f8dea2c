"""An option that only some data formats, or only some click models, have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# the kinds, and what the command line calls a value of theirs
SHOWN_AS = {str: "TEXT", int: "INTEGER", float: "FLOAT", Path: "FILE", list: "NAMES", tuple: "NUMBERS"}


@dataclass(frozen=True)
class Option:
    """A keyword of `load` or of a click model's constructor, and an option of the command line.

    Attributes:
        name: the keyword.
        kind: `str`, `int`, `float`, `Path`, `list` for names or `tuple` for whole numbers, separated by commas.
        help: what it means, without the format's or model's name.
        command_line: whether the command line has it too.
        default: of a model's option; those of formats say theirs in `help`.
        presets: of a model's option, other defaults by the names of presets.
    """

    name: str
    kind: type
    help: str
    command_line: bool = True
    default: Any = None
    presets: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def value(self, given: Any) -> Any:
        """A value of this kind; text where it comes from the command line.

        Raises:
            InputError: it is none.
        """
        from embpress.compressors.errors import InputError  # help is shown without torch
        from embpress.compressors.guard import shown, whole

        if self.kind is int:
            return whole(given, self.name)
        if self.kind is float:
            try:
                return given if isinstance(given, bool) else float(given)
            except (TypeError, ValueError, OverflowError):
                raise InputError(f"{self.name} is {shown(given)}, but it must be a number") from None
        if self.kind not in (list, tuple):
            return given
        parts = given.split(",") if isinstance(given, str) else given
        if self.kind is tuple and isinstance(parts, Sequence):
            return tuple(whole(part, self.name, 1) for part in parts)
        if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
            what = "column names" if self.kind is list else "whole numbers"
            raise InputError(f"{self.name} is {shown(given)}, but it must be a list of {what}")
        return list(parts)


def values_of(kind: str, name: str, given: Mapping[str, Any], known: Mapping[str, Sequence[Option]]) -> dict[str, Any]:
    """What was given for the options of a member, as their kinds say; None is as good as left out.

    Args:
        kind: what a message calls the member: `format`, `model`.
        name: which member.
        given: by the options' names.
        known: the options of all members by their names.

    Raises:
        InputError: a value of another kind, or an option that this member does not have.
    """
    from embpress.compressors.errors import InputError, nearest

    own = {option.name: option for option in known[name]}
    values = {option: value for option, value in given.items() if value is not None}
    for option in values:
        if option not in own:
            homes = [other for other, options in known.items() if option in [one.name for one in options]]
            hint = f"; it belongs to {', '.join(homes)}" if homes else nearest(option, own)
            raise InputError(f"{kind} {name} has no option {option!r}{hint}")
    return {option: own[option].value(value) for option, value in values.items()}
