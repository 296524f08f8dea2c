"""Whether another process that is named in a file still lives, and on which machine."""

from __future__ import annotations

import os
import socket
from functools import cache


@cache
def host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def alive(process: str) -> bool:
    """Whether there is a process of this number, other than this one."""
    return process.isdecimal() and int(process) != os.getpid() and not no_process(int(process))


def no_process(pid: int) -> bool:
    """Whether this machine has no process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False
