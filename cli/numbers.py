"""Whole numbers on the command line: of any length, with their range in the message."""

from __future__ import annotations

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
