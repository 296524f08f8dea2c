"""Narrower plain tables: the whole model at width ⌊D / ratio⌋, which needs no method at all; the baseline of MLET."""

from __future__ import annotations

from typing import Any, ClassVar

from embpress.compressors.methods.full import Full
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags


@register("narrow")
class Narrow(Full):
    """A full table in a model that is as narrow as the ratio asks for: at a ratio r its width is `⌊D / r⌋`.

    What people have without a library. At the model's own width it is a full table.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, saves_by_width=True, from_dense=True, baseline=True)

    def group_key(self) -> tuple[Any, ...]:
        """That of full tables, with which it goes together."""
        return Full, *super().group_key()[1:]
