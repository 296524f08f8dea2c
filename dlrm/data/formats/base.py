"""What a format says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from embpress.dlrm.data.raw import RawTable


@dataclass(frozen=True)
class Option:
    """A keyword of `load`, and an option of the command line, that only some formats have.

    Attributes:
        name: the keyword.
        kind: `str`, `int`, `float`, `Path`, or `list` for names separated by commas.
        help: what it means, without the format's name.
        command_line: whether the command line has it too.
    """

    name: str
    kind: type
    help: str
    command_line: bool = True


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
