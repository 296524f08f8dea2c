"""One tool of compute-sanitizer over a call of every op; only what our own library launches counts.

python tests/tools/gpu_check/sanitizer.py COMPUTE_SANITIZER TOOL
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runner import SKIP_STATUS

CALLS = Path(__file__).parents[2] / "support" / "op_calls.py"
_OURS = re.compile(r"embpress|_C\.abi3\.so")
_ERROR = re.compile(
    r"========= (Invalid|Program hit|Uninitialized|Error: (?!No attachable)|.*[Rr]ace|Misaligned|Barrier|Out-of)"
)


def blocks(text: str) -> Iterator[str]:
    """The reports in the tool's output: each starts at the margin, its frames are indented."""
    block: list[str] = []
    for line in text.splitlines():
        if re.match(r"=========\s?\S", line) and not line.startswith("=========  "):
            if block:
                yield "\n".join(block)
            block = []
        if line.startswith("========="):
            block.append(line)
    if block:
        yield "\n".join(block)


def errors(text: str) -> tuple[list[str], int]:
    """Reports that name our kernels or our library, and how many others there are."""
    found = [block for block in blocks(text) if _ERROR.match(block)]
    ours = [block for block in found if _OURS.search(block)]
    return ours, len(found) - len(ours)


def main(program: str, tool: str) -> int:
    """Exit status; the last line says what was found."""
    done = subprocess.run(
        [program, "--tool", tool, "--print-limit", "1000", sys.executable, str(CALLS), "--device", "cuda"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    print(done.stdout)
    if "Device not supported" in done.stdout:
        print(f"{tool}: compute-sanitizer does not support the device as this machine shows it")
        return SKIP_STATUS
    ours, others = errors(done.stdout)
    finished = re.search(r"^\d+ calls on cuda$", done.stdout, re.M) is not None
    print(
        f"{tool}: {len(ours)} reports about our kernels, {others} about others"
        + ("" if finished else "; did not finish")
    )
    return int(bool(ours) or not finished)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
