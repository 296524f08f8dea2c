"""Who holds a claim: a process on a machine, and whether it is known to have ended."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from embpress.dlrm.processes import host, no_process


@cache
def place() -> str:
    """What says that the number of a process means the same process here and there: this boot, these numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{host()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return host()


def me() -> dict[str, Any]:
    """This process, as a claim names its owner."""
    pid = os.getpid()
    return {"host": host(), "place": place(), "pid": pid, "started": _state(pid)[1]}


def has_ended(owner: dict[str, Any]) -> bool:
    """Whether a process of this machine is known to be no more; of other machines nothing is known."""
    pid, started = owner.get("pid"), owner.get("started")
    if owner.get("place") != place() or not isinstance(pid, int):
        return False
    state, began = _state(pid)
    return no_process(pid) or state in ("Z", "X") or (None not in (started, began) and began != started)


def _state(pid: int) -> tuple[str, int | None]:
    """The state of a process, and when it was started in ticks since the boot; empty and None where nobody tells."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", None
    words = text.rpartition(")")[2].split()  # the name before may hold anything
    return words[0], int(words[19])
