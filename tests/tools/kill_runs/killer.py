"""Starts a comparison, kills it, starts it again."""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("anywhen", "writing", "report")
LOOK = 0.0005  # seconds between two looks
PATIENCE = 600.0  # seconds that a round may take


class Killer:
    """One comparison, left alone once and then killed.

    Args:
        words: of the comparison.
        folder: of what is made.
        minutes: between two checkpoints.
        executor: where workers run; None for none.
        processes: that train each run together; None for one.
        seed: of the moments.
        kinds: those that are drawn from.

    Attributes:
        kills: what each kill met: its kind and its victim.
        lost: sentences about records that a kill has taken or changed.
        resumed: how often runs were taken up again in the middle.
    """

    def __init__(self, words, folder, minutes, executor=None, seed=0, kinds=KINDS, processes=None):
        self.words, self.folder, self.minutes, self.executor = words, folder, minutes, executor
        self.draw, self.kinds, self.processes = random.Random(seed), kinds, processes
        self.untouched = folder / "whole"
        self.kills, self.lost, self.expected, self.seconds, self.rounds = [], [], set(), 0.0, 0
        self.resumed = 0

    def whole(self):
        """Runs it once and leaves it alone: seconds."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        began = time.monotonic()
        process = self._start(self.untouched, 0, None)
        assert process.wait() == 0, (self.folder / "log").read_text()
        self.seconds = time.monotonic() - began
        self.expected = _records(self.untouched).keys()
        return self.seconds

    def round(self, most):
        """Kills it, up to `most` kills in all, until it has come to its end: the folder that it made."""
        self.rounds += 1
        folder = self.folder / f"killed-{self.rounds}"
        self.before, self.lost, known = len(self.kills), [], {}
        until = time.monotonic() + PATIENCE
        process = None
        while True:
            process = process or self._start(folder, self.minutes, self.executor)
            kind = self.draw.choice(self.kinds) if len(self.kills) < most else None
            if not self._moment(process, folder, kind, until):
                status = process.wait()
                assert status == 0, f"exit status {status}: {(self.folder / 'log').read_text()}"
                return folder
            victim = self._victim(process)
            what = "command" if victim == process.pid else "rank" if self.processes else "worker"
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended by itself
                continue
            if what != "worker":  # a worker's place is taken by another; all other processes end with the killed one
                process.wait(PATIENCE)
                process = None
            self.kills.append((kind, what))
            known = self._compared(known, _records(folder))

    def summary(self, folder):
        """What was killed in the last round and when, and how often runs were taken up again in the middle."""
        counts = collections.Counter(f"{victim} {kind}" for kind, victim in self.kills[self.before :])
        resumed = sum(json.loads(text)["resumed"] for text in _records(folder).values())
        self.resumed += resumed
        return ", ".join(f"{count}× {what}" for what, count in sorted(counts.items())) + f"; resumed {resumed}×"

    def _start(self, folder, minutes, executor):
        words = [*self.words, "--out", str(folder), "--checkpoint-minutes", str(minutes)]
        words += ["--executor", executor] if executor else []
        words += ["--processes", str(self.processes)] if self.processes else []
        with open(self.folder / "log", "w", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "embpress.cli.main", "compare", *words], stdout=log, stderr=log
            )

    def _moment(self, process, folder, kind, until):
        """Waits for the moment to kill: False where the command ended before it came."""
        if kind == "anywhen":
            moment = time.monotonic() + self.draw.uniform(0, 1.1 * self.seconds)
        elif kind == "report":
            moment = self.draw.uniform(0, 2.0)  # after the last record
        seen, after = set(), self.draw.randint(1, 9)  # files on their way
        while process.poll() is None:
            now = time.monotonic()
            assert now < until, (self.folder / "log").read_text()
            if kind == "anywhen" and now >= moment:
                return True
            seen |= _writing(folder)
            if kind == "writing" and len(seen) >= after:
                time.sleep(self.draw.choice([0, 0, 0.001, 0.003]))
                return True
            if kind == "report" and moment < 10 and _records(folder, False).keys() == self.expected:
                moment += now  # of the clock from here on, which is larger
                kind = "anywhen"
            time.sleep(LOOK)
        return False

    def _victim(self, process):
        """A rank; or a worker, where there is one, or now and then the command itself."""
        children = _children(process.pid)
        if self.processes:
            ranks = [pid for pid in children if _is_rank(pid)]
            return self.draw.choice(ranks) if ranks else process.pid
        return self.draw.choice(children) if self.executor and children and self.draw.random() < 0.8 else process.pid

    def _compared(self, known, now):
        good = {name: text for name, text in known.items() if json.loads(text)["status"] != "failed"}
        self.lost += [f"{name} was lost or changed by a kill" for name, text in good.items() if now.get(name) != text]
        return now


def _records(folder, read=True):
    """Records of a folder by name, with their bytes where they are to be read."""
    return {p.name: p.read_bytes() if read else b"" for p in folder.glob("records/*.json")}


def _writing(folder):
    """Names of checkpoints that are being written."""
    try:
        return {name for name in os.listdir(folder / "partial") if name.startswith(".writing-")}
    except OSError:  # it comes and goes
        return set()


def _children(pid):
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in found.split()]


def _is_rank(pid):
    try:
        return b"\0RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has just ended
        return False
