"""libfm (and libsvm) text: `label index:value index:value …`, one row a line, every value 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.option import Option


class LibFM(Format):
    """Told by its ending."""

    name = "libfm"
    endings = (".libfm", ".svm", ".libsvm")
    options = (Option("fields", Path, "which field each index belongs to."),)

    @classmethod
    def read(cls, *files: Any, **options: Any) -> Any:
        """See `read_libfm`."""
        from embpress.dlrm.data.readers.libfm import read_libfm

        return read_libfm(*files, **options)

    @classmethod
    def source(cls, *files: Any, **options: Any) -> Any:
        """See `LibFMSource`."""
        from embpress.dlrm.data.prepare.sources.libfm import LibFMSource

        return LibFMSource(*files, **options)
