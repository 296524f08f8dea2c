"""Runs the parts of a check one after another, each with its own time limit and log; none hides another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from threading import Lock

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SKIP_STATUS = 77  # of a command that cannot do its work here and says why in its last line
_LEAST_S = 3.0


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Attributes:
        name: short, and its log's name.
        about: what it looks at.
        command: what is run, from the project's root.
        limit_s: seconds until it is stopped.
        environment: variables besides those of all parts.
        skip: why it cannot run here, or None.
        alone: nothing else may run beside it.
    """

    name: str
    about: str
    command: Sequence[str]
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    skip: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a part: `status` is one of `PASSED`, `FAILED`, `SKIPPED`; `why` is one line."""

    name: str
    about: str
    status: str
    seconds: float
    why: str
    log: str = ""


def run_part(part: Part, root: Path, logs: Path, environment: Mapping[str, str], left_s: float) -> Result:
    """Runs one part with what is left of the time for all of them; its output goes to `logs/<name>.log`."""
    if part.skip is not None:
        return Result(part.name, part.about, SKIPPED, 0.0, part.skip)
    limit = min(part.limit_s, left_s)
    if limit < _LEAST_S:
        return Result(part.name, part.about, FAILED, 0.0, "not run: the time for the whole check is over")
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{part.name}.log"
    began = time.monotonic()
    with log.open("wb") as out:
        out.write(f"$ {' '.join(part.command)}\n".encode())
        out.flush()
        try:
            process = subprocess.Popen(
                part.command,
                cwd=root,
                env={**environment, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what it starts is stopped with it
            )
        except OSError as error:
            return Result(part.name, part.about, FAILED, 0.0, f"does not start: {error}", log.name)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            _stop(process)
            status = None
    seconds = time.monotonic() - began
    text = log.read_text(encoding="utf-8", errors="replace").partition("\n")[2]
    if status is None:
        return Result(part.name, part.about, FAILED, seconds, f"stopped after {limit:.0f} s: {_last(text)}", log.name)
    return Result(part.name, part.about, *_judged(status, text, seconds), log.name)


def run_parts(
    parts: Sequence[Part],
    root: Path,
    logs: Path,
    environment: Callable[[], Mapping[str, str]],
    total_s: float,
    done: Callable[[Result], None],
    jobs: int = 1,
) -> list[Result]:
    """Runs all parts within `total_s`, up to `jobs` at a time of those that need not run alone, in their order.

    Args:
        parts: what to run.
        root: working folder of the commands.
        logs: folder of their logs.
        environment: asked for the variables before each.
        total_s: no part starts or goes on after so many seconds.
        done: told of each as it ends, one at a time.
        jobs: parts at a time.

    Returns:
        The results in the order of the parts.
    """
    end = time.monotonic() + total_s
    lock = Lock()

    def one(part: Part) -> Result:
        result = run_part(part, root, logs, environment(), end - time.monotonic())
        with lock:
            done(result)
        return result

    results: list[Result] = []
    with ThreadPoolExecutor(jobs) as pool:
        for alone, group in groupby(parts, key=lambda part: part.alone):
            results += (map if alone else pool.map)(one, group)
    return results


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _judged(status: int, text: str, seconds: float) -> tuple[str, float, str]:
    last = _last(text)
    if status == SKIP_STATUS:
        return SKIPPED, seconds, last
    if status:
        named = re.findall(r"^(?:FAILED|ERROR) (?:\S*::)?(\S+)", text, re.M)
        more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
        return FAILED, seconds, f"{named[0]}{more}: {last}" if named else f"exit status {status}: {last}"
    if re.search(r"\d+ skipped", last) and not re.search(r"\d+ passed", last):
        return SKIPPED, seconds, last  # pytest has found nothing to run here
    return PASSED, seconds, last


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip(" =-")]
    return lines[-1].strip("= ")[:200] if lines else "no output"
