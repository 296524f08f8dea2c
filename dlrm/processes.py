"""Whether another process that is named in a file still lives."""

from __future__ import annotations

import os


def alive(process: str) -> bool:
    """Whether there is a process of this number, other than this one."""
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()
