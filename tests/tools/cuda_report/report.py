"""What can be known of the CUDA kernels without a GPU: what the compiler makes of them, and which lines tests run.

    python -m cuda_report [--min 90] [--only compile|coverage]

Compiles every source for sm_80 and sm_90 (registers, shared memory, stack, spills), then runs the kernels' tests on the
device code as CPU code and counts the lines that they reach. Exit status 1 where one of our kernels spills or a file's
coverage lies under `--min`. Where nvcc is missing, it says so and that half is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuda_report import compile, coverage
from cuda_report.coverage import Coverage
from cuda_report.ptxas import Usage, spilling

MIN_SHARE = 90.0  # per cent of a file's lines
_FOLDER = coverage.ROOT / "build" / "coverage"
_WIDTH = 100


def usage_table(found: Mapping[str, Sequence[Usage]]) -> Table:
    """A line for each of our kernels on each architecture, file by file; what comes from libraries is left out."""
    table = _table("kernel", "arch", "registers", "shared", "stack", "spill st/ld", left=2)
    for file, usages in found.items():
        table.add_row(file, style="bold")
        for usage in sorted((u for u in usages if not u.library), key=lambda u: (u.name, u.arch)):
            table.add_row(
                f"  {usage.name}{'' if usage.kernel else ' (called)'}",
                usage.arch,
                str(usage.registers) if usage.kernel else "–",
                f"{usage.shared:,}",
                f"{usage.stack:,}",
                f"{usage.spill_stores:,}/{usage.spill_loads:,}",
                style="red" if usage.spills else None,
            )
    return table


def coverage_table(found: Sequence[Coverage]) -> Table:
    """A line a file."""
    table = _table("file", "lines", "run", "share", "not run", left=1)
    for one in found:
        table.add_row(one.file, str(one.total), str(one.covered), f"{100 * one.share:.1f} %", ranges(one.missed))
    return table


def ranges(numbers: Sequence[int]) -> str:
    """Ascending line numbers, neighbours as `4-7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def compile_half(out: Console) -> list[str]:
    """Prints the compiler's half and returns what is wrong, one sentence each."""
    compiler = compile.nvcc()
    if compiler is None:
        out.print("SKIPPED: nvcc is not installed here, so no CUDA source was compiled", style="yellow")
        return []
    try:
        found = compile.usage(sorted(coverage.KERNELS.glob("cuda/**/*.cu")), compiler)
    except compile.CompilerError as error:
        return [str(error)]
    out.print(usage_table(found))
    library = [usage for usages in found.values() for usage in usages if usage.library]
    if library:
        worst = sum(usage.spills for usage in library)
        out.print(
            f"  not shown: {len(library)} kernels of CUB, {worst} of them spill; bytes a thread or block", style="dim"
        )
    return [
        f"{file}: {usage.name} spills on {usage.arch}: {usage.spill_stores:,} bytes out, {usage.spill_loads:,} back"
        for file, usages in found.items()
        for usage in spilling(usages)
    ]


def coverage_half(out: Console, min_share: float, folder: Path | None = None) -> list[str]:
    """Prints the tests' half and returns what is wrong, one sentence each; the tests of `folder` have run already."""
    try:
        found = coverage.counted(folder) if folder else coverage.measure(_FOLDER, coverage.kernel_tests())
    except RuntimeError as error:
        return [f"the kernels' tests on the emulated device code: {error}"]
    out.print(coverage_table(found))
    return [
        f"{one.file}: the tests run {100 * one.share:.1f} % of its lines, less than {min_share:g} %"
        for one in found
        if 100 * one.share < min_share
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description="What the compiler makes of the CUDA kernels, what their tests run.")
    parser.add_argument("--min", type=float, default=MIN_SHARE, help="per cent of a file's lines that tests must run")
    parser.add_argument("--only", choices=["compile", "coverage"], help="one half of the report")
    parser.add_argument("--counted", type=Path, help="a build with counters on which the tests have run already")
    options = parser.parse_args(arguments)
    out = Console(width=_WIDTH, highlight=False)
    wrong: list[str] = []
    if options.only != "coverage":
        wrong += compile_half(out)
    if options.only != "compile":
        wrong += coverage_half(out, options.min, options.counted)
    for sentence in wrong:
        out.print(f"FAILED: {sentence}", markup=False, style="red")
    return 1 if wrong else 0


def _table(*headers: str, left: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < left else "right", overflow="fold")
    return table
