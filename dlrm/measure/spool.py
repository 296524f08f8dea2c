"""Numbers of each row: in memory, or of very many rows in a file that has no name and goes with them."""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile

import torch
from torch import Tensor

from embpress.compressors.errors import InputError

IN_MEMORY = 1 << 24  # rows; logits of so many take 64 MB, their exact AUC by one sort about a gigabyte


def empty(rows: int, *row: int) -> Tensor:
    """Float32 numbers `(rows, *row)` to be filled; of more than `IN_MEMORY` rows in a file in the folder for temporary
    files, which the environment variable `TMPDIR` names.

    Raises:
        InputError: the file cannot be made, as on a full disk.
    """
    if rows <= IN_MEMORY:
        return torch.empty(rows, *row)
    size = 4 * rows * math.prod(row)
    try:
        with tempfile.TemporaryFile(prefix="embpress-") as file:
            if hasattr(os, "posix_fallocate"):  # a page that finds no room when it is written ends the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            pages = mmap.mmap(file.fileno(), size)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise InputError(
            f"{tempfile.gettempdir()} {'has no room for' if full else 'cannot take'} {size / 1e9:.1f} GB of "
            f"predictions ({error.strerror or error}); free space, or name another folder by TMPDIR"
        ) from None
    return torch.frombuffer(pages, dtype=torch.float32).view(rows, *row)
