"""Whole numbers and seeds on the command line: of any length, with their range in the message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click


class Whole(click.ParamType):
    """A whole number from `minimum` to `maximum`, both included."""

    name = "integer"

    def __init__(self, minimum: int = 0, maximum: int = 2**63 - 1) -> None:
        self.minimum, self.maximum = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number.

        Raises:
            InputError: what was typed is none, or out of range.
        """
        from embpress.compressors.guard import whole  # not to wait for torch to show help

        return whole(value, param.opts[0] if param else "the number", self.minimum, self.maximum)


class Minutes(click.ParamType):
    """Minutes, from 0, whole or not."""

    name = "minutes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            InputError: what was typed is none, or out of range.
        """
        from embpress.compressors.errors import InputError

        try:
            minutes = float(value)
        except ValueError:
            minutes = math.nan
        if not 0 <= minutes < math.inf:
            name = param.opts[0] if param else "the number"
            raise InputError(f"{name} is a number of minutes from 0 (never), got {value}")
        return minutes


class Seeds(click.ParamType):
    """A number of seeds, or `auto:HALF_WIDTH[:max=SEEDS]`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Sequence[int]:
        """Seeds 0 to N - 1, or `AutoSeeds`.

        Raises:
            InputError: what was typed is neither.
        """
        from embpress.dlrm.runs.seeds import AutoSeeds

        text = str(value)
        if text.partition(":")[0] == "auto":
            return AutoSeeds.parse(text)
        return range(Whole(1, 1000).convert(value, param, ctx))
