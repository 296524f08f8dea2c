"""What a format says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from embpress.dlrm.option import Option

if TYPE_CHECKING:
    from embpress.dlrm.data.prepare.blocks import Source
    from embpress.dlrm.data.raw import RawTable


class Format:
    """A format of click data: a file of this folder with a subclass that sets `name`.

    The file is imported to show help, so `read` imports what it needs.

    Attributes:
        name: what `--format` calls it.
        endings: of file names, such as `.csv`; `.gz` after them is no matter.
        options: those beyond the ones that all formats have.
        split: the default split, `order` or `random`.
        made: its data are made, not read from files.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[Option, ...]] = ()
    split: ClassVar[str] = "random"
    made: ClassVar[bool] = False

    @classmethod
    def recognises(cls, first_line: str) -> bool:
        """Whether a text file of unknown ending that begins with this line is one."""
        return False

    @classmethod
    def read(
        cls, paths: Sequence[str | Path], test: Sequence[str | Path], rows: int | None, **options: Any
    ) -> RawTable:
        """All rows as columns.

        Args:
            paths: training files, or all files where `test` is empty; regular files that are not empty.
            test: test files.
            rows: read only so many rows of `paths` and so many of `test`.
            **options: those of `options` that were given.

        Raises:
            InputError: whatever is wrong with the files, with file and line.
        """
        raise NotImplementedError

    @classmethod
    def source(
        cls, paths: Sequence[str | Path], test: Sequence[str | Path], rows: int | None, **options: Any
    ) -> Source:
        """The same rows in blocks, for `embpress data prepare`; the arguments are those of `read`.

        Raises:
            InputError: this format is only read whole.
        """
        from embpress.compressors.errors import InputError

        raise InputError(f"format {cls.name} has no way to read in blocks, so its files cannot be prepared")
