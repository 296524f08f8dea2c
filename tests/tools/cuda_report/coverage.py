"""Which lines of the device code the kernels' tests run, on the build that runs it on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
KERNELS = ROOT / "kernels"


@dataclass(frozen=True)
class Coverage:
    """Lines of one file that hold code, and those of them that ran; `missed` are the numbers of the others.

    `file` is its path below the folder of all.
    """

    file: str
    covered: int
    total: int
    missed: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of the lines, 0 to 1; 1 where there are none."""
        return self.covered / self.total if self.total else 1.0


def merge(reports: Iterable[Mapping[str, Any]], folder: Path) -> list[Coverage]:
    """Coverage of the files in `folder` from gcov's JSON reports, in alphabetical order.

    A line counts as run where any object and any instance of a template ran it.
    """
    counts: dict[str, dict[int, int]] = {}
    for report in reports:
        start = Path(report.get("current_working_directory", "."))
        for file in report["files"]:
            path = (start / file["file"]).resolve()
            if not path.is_relative_to(folder.resolve()):
                continue
            lines = counts.setdefault(str(path.relative_to(folder.resolve())), {})
            for line in file["lines"]:
                number = line["line_number"]
                lines[number] = max(lines.get(number, 0), line["count"])
    return [
        Coverage(
            name,
            sum(count > 0 for count in lines.values()),
            len(lines),
            tuple(sorted(number for number, count in lines.items() if count == 0)),
        )
        for name, lines in sorted(counts.items())
    ]


def reports(objects: Path, gcov: str) -> list[dict[str, Any]]:
    """gcov's JSON report of every counted object below `objects`."""
    found = []
    for data in sorted(objects.rglob("*.gcda")):
        done = subprocess.run(
            [gcov, "--json-format", "--stdout", data.name], cwd=data.parent, capture_output=True, text=True, check=True
        )
        found += [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    return found


def measure(folder: Path, tests: Iterable[str]) -> list[Coverage]:
    """Builds the device code for the CPU with counters into `folder`, runs the tests on it, reads the counters.

    Raises:
        RuntimeError: it does not build, or a test fails; the message is the end of the output.
    """
    shutil.rmtree(folder, ignore_errors=True)
    build = [sys.executable, str(KERNELS / "build.py"), "--cuda-on-cpu", "--coverage", "--to", str(folder)]
    _run(build, dict(os.environ))
    (library,) = folder.glob("_C*.so")
    environment = {**os.environ, "EMBPRESS_LIBRARY": str(library.resolve())}
    _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], environment)
    return counted(folder)


def counted(folder: Path) -> list[Coverage]:
    """What the counters of a build in `folder` say, whose tests have run.

    Raises:
        RuntimeError: nothing has run on it, or gcov is missing.
    """
    gcov = shutil.which("gcov")
    if gcov is None:
        raise RuntimeError("gcov, which comes with gcc, is not installed")
    coverage = merge(reports(folder, gcov), KERNELS / "cuda")
    if not coverage:
        raise RuntimeError(f"{folder} holds no counters of the device code")
    return coverage


def kernel_tests() -> list[str]:
    """The files of tests that call the ops."""
    return ["tests/kernels/ops"]


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError("\n".join(output[-30:]))
