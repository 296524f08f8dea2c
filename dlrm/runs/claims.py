"""Claims: files in a run folder that say which process makes which run, so that none is made twice.

`claims/<run>.<n>.claim` is created where no such file is, which a file system lets one process do alone, and taken away
once the record is there. Its owner touches it now and then. A claim whose owner has ended, or has not touched it for
long, is given back: whoever creates file n + 1 next is the owner.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple

from typing_extensions import Self

from embpress.compressors import InputError
from embpress.dlrm.runs import owner
from embpress.dlrm.runs.record import Run, fingerprint

_TICK = 10_000_000  # ns that the clock of a file system may stand still
_FUTURE = 5_000_000_000  # ns; a record that is newer than now by more was copied from elsewhere


class Session(NamedTuple):
    """One command with all its workers.

    Attributes:
        name: unique.
        began: when it began, in the file system's time, nanoseconds.
        expected: fingerprint of what its runs share; empty where it is not known yet.
    """

    name: str
    began: int
    expected: str = ""

    @classmethod
    def parse(cls, text: str) -> Session:
        """From `str(session)`; InputError where it is something else."""
        name, _, rest = text.partition(":")
        began, _, expected = rest.partition(":")
        if not name or not began.isdecimal():
            raise InputError(f"a session of workers is NAME:NANOSECONDS:FINGERPRINT, got {text!r}")
        return cls(name, int(began), expected)

    def __str__(self) -> str:
        return f"{self.name}:{self.began}:{self.expected}"


@dataclass
class Claims:
    """What one process takes of a run folder's runs.

    Attributes:
        folder: run folder.
        session: that of the command for which this process works; None where it is a command itself.
        pause: seconds between two looks at what others do.
        beat: seconds between two signs of life.
        stale: seconds without one after which a claim is given back. Other machines may see a file's time late.
        fatal: so many workers of a session, none of whom brought it further, may die of a run before it counts as
            failed.
    """

    folder: Path
    session: Session | None = None
    pause: float = 0.2
    beat: float = 15.0
    stale: float = 120.0
    fatal: ClassVar[int] = 3
    held: dict[Path, Claim] = field(default_factory=dict)
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.leads = self.session is None  # it says what of before is tried again
        self.name, self.began, self.expected = self.session or (uuid.uuid4().hex[:12], _now(self.folder), "")
        self._stopped: threading.Event | None = None

    @property
    def place(self) -> Path:
        """The folder of the claims."""
        return self.folder / "claims"

    def expect(self, about: Run) -> None:
        """Takes note of what all runs share.

        Raises:
            InputError: this is a worker, and the command that started it has other data or settings.
        """
        known = fingerprint(about.protocol)
        if not self.leads and self.expected and known != self.expected:
            raise InputError("a worker has other data or settings than its command: are its files the same there?")
        self.expected = known

    def is_new(self, path: Path) -> bool:
        """Whether a file is there and was written since the session began."""
        try:
            return path.stat().st_mtime_ns >= self.began
        except OSError:
            return False

    def take(self, run: str, title: str) -> Claim | None:
        """The claim of a run, to be used in a `with`; None while another has it.

        Whoever has it has to look once more whether the record has come meanwhile.

        Raises:
            InputError: the folder cannot be written.
        """
        before = self._of(run)
        number, last = max(before.items(), default=(0, None))
        if last is not None and not self._given_back(last):
            return None
        known = _read(last) if last is not None else {}
        claim = self._create(run, number + 1, title)
        if claim is None:
            return None
        now = self._of(run)
        unchanged = last is None or (number in now and _read(last) == known)
        if max(now, default=0) != number + 1 or not unchanged:  # others came between: once more, later
            claim.path.unlink(missing_ok=True)
            return None
        claim.deaths = sum(_read(path).get("session") == self.name for path in before.values())
        self.held[claim.path] = claim
        self._beat()
        return claim

    def taken(self, run: str) -> bool:
        """Whether another process that seems to live has a run."""
        last = max(self._of(run).items(), default=(0, None))[1]
        return last is not None and last not in self.held and not self._given_back(last)

    def titles(self) -> list[str]:
        """What is being made now, by title."""
        found = [_read(path) for path in sorted(self.place.glob("*.claim"))]
        return [str(claim["title"]) for claim in found if "title" in claim and not owner.has_ended(claim)]

    def wait(self, done: int = 0, total: int = 0) -> None:
        """Called where nothing can be done but to wait for others; `done` of `total` are."""
        time.sleep(self.pause)

    def tidy(self) -> None:
        """Takes away what ended processes of this machine have left, and the folder where nothing is in it."""
        for path in self.place.glob("*.claim"):
            if owner.has_ended(_read(path)):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.place.rmdir()

    def _of(self, run: str) -> dict[int, Path]:
        """The claims of a run by number."""
        found = ((re.fullmatch(r"(\d+)\.claim", path.name[len(run) + 1 :]), path) for path in self._files(run))
        return {int(match[1]): path for match, path in found if match}

    def _files(self, run: str) -> list[Path]:
        try:
            return [self.place / name for name in os.listdir(self.place) if name.startswith(f"{run}.")]
        except OSError:
            return []

    def _given_back(self, path: Path) -> bool:
        """Whether its owner is known to have ended, or has given no sign for long while this process looked on."""
        content = _read(path)
        if owner.has_ended(content):
            return True
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return False
        now = time.monotonic()
        known, since = self.seen.get(path.name, (0, now))
        if known != stamp:
            since = now
        self.seen[path.name] = (stamp, since)
        return now - since > self.stale

    def _create(self, run: str, number: int, title: str) -> Claim | None:
        path = self.place / f"{run}.{number}.claim"
        token = uuid.uuid4().hex
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = {"token": token, "session": self.name, "title": title, "time": when, **owner.me()}
        for _ in range(100):  # the folder may go between its making and its use: who ends tidies up
            try:
                self.place.mkdir(parents=True, exist_ok=True)
                try:
                    with open(path, "x", encoding="utf-8") as file:
                        json.dump(content, file)
                except FileExistsError:
                    return None
                return Claim(self, run, number, path, token)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        return None

    def _beat(self) -> None:
        """Sees that a thread gives signs of life, as long as there are claims."""
        if self._stopped is None:
            self._stopped = threading.Event()
            threading.Thread(target=self._beating, args=(self._stopped,), daemon=True, name="claims").start()

    def _beating(self, stopped: threading.Event) -> None:
        while not stopped.wait(self.beat):
            for path in list(self.held):
                with suppress(OSError):  # a claim that is gone shows when the run ends
                    os.utime(path)

    def _released(self) -> None:
        if not self.held and self._stopped is not None:
            self._stopped.set()
            self._stopped = None


@dataclass
class Claim:
    """A claim of this process; leaving its `with` gives it back.

    Attributes:
        deaths: how many workers of the same session have died of this run.
    """

    claims: Claims
    run: str
    number: int
    path: Path
    token: str
    deaths: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, path in sorted(self.claims._of(self.run).items()):
            if number < self.number or (number == self.number and self.stands):
                path.unlink(missing_ok=True)
        self.claims.held.pop(self.path, None)
        self.claims._released()

    @property
    def stands(self) -> bool:
        """Whether it is still this process's: it may have been stopped for so long that another has the run now."""
        latest = max(self.claims._of(self.run), default=0)
        return latest == self.number and _read(self.path).get("token") == self.token

    def progressed(self) -> None:
        """Forgets who died of the run before: it has come further, and whoever takes it next goes on from here."""
        for number, path in self.claims._of(self.run).items():
            if number < self.number:
                path.unlink(missing_ok=True)

    @property
    def fatal(self) -> str:
        """Why the run is not made once more; empty where it is."""
        if self.deaths < self.claims.fatal:
            return ""
        return f"{self.deaths} workers died while they made it, as they do where memory is short"


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing where it is gone or is being written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _now(folder: Path) -> int:
    """The file system's time in nanoseconds, later than every record of a run folder."""
    parts = (folder / "records", folder / "trials" / "records")
    newest = max((path.stat().st_mtime_ns for part in parts for path in part.glob("*.json")), default=0)
    for _ in range(500):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                now = os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return newest + 1  # no folder, or none that can be written
        if now > newest or newest - now > _FUTURE:
            return now
        time.sleep(_TICK / 1e9)
    return newest + 1
