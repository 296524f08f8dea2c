"""What `ptxas -v` says of each kernel: registers, shared memory, stack, spills."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Usage:
    """One function on one architecture. Memory is in bytes; `registers` are a thread's, 0 where ptxas names none.

    Attributes:
        name: mangled as ptxas prints it, or what `readable` made of it.
        arch: such as `sm_90`.
        kernel: False for a device function that was not inlined.
        shared: static shared memory of a block.
        stack: a thread's stack frame, for arrays indexed at run time and for what is spilled.
        spill_stores, spill_loads: what the registers do not hold.
    """

    name: str
    arch: str
    kernel: bool
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0

    @property
    def spills(self) -> bool:
        """Whether registers are spilled to memory."""
        return self.spill_stores > 0 or self.spill_loads > 0

    @property
    def library(self) -> bool:
        """Whether the kernel comes from a library that ours includes, once the name is readable."""
        return re.match(r"(cub|thrust)::", self.name) is not None


_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
_FUNCTION = re.compile(r"Function properties for (\S+)")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS, _SHARED = re.compile(r"Used (\d+) registers"), re.compile(r"(\d+) bytes smem")


def parse(text: str) -> list[Usage]:
    """Every function that ptxas speaks of, in its order."""
    found: list[Usage] = []
    entry, arch, name = "", "", ""
    for line in text.splitlines():
        if started := _ENTRY.search(line):
            entry, arch = started[1], started[2]
        elif started := _FUNCTION.search(line):
            name = started[1]
        elif sizes := _STACK.search(line):
            stack, stores, loads = map(int, sizes.groups())
            found.append(Usage(name, arch, name == entry, 0, 0, stack, stores, loads))
        elif used := _REGISTERS.search(line):
            # said after the functions that the entry calls
            at = max(i for i, usage in enumerate(found) if usage.name == entry and usage.arch == arch)
            shared = _SHARED.search(line)
            found[at] = replace(found[at], registers=int(used[1]), shared=int(shared[1]) if shared else 0)
    return found


def readable(found: Sequence[Usage]) -> list[Usage]:
    """The same with demangled, shortened names, where there is a program that demangles."""
    names = demangle([usage.name for usage in found])
    return [replace(usage, name=shorten(name)) for usage, name in zip(found, names)]


def demangle(names: Sequence[str]) -> list[str]:
    """C++ names as they are written, by `cu++filt` or `c++filt`; unchanged where neither is installed."""
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if tool is None or not names:
        return list(names)
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def shorten(name: str) -> str:
    """`void embpress::cuda::f<float, (int)4>(float*, long)` → `f<float, 4>`."""
    name = re.sub(r"^void ", "", name)
    name = re.sub(r"\(anonymous namespace\)::|embpress::(cuda::)?|\((int|bool|long|unsigned int)\)(?=-?\d)", "", name)
    return _without_arguments(name)


def _without_arguments(name: str) -> str:
    depth = 0
    for i, letter in enumerate(name):
        if letter == "(" and depth == 0:
            return name[:i]
        depth += (letter == "<") - (letter == ">")
    return name


def spilling(found: Iterable[Usage]) -> list[Usage]:
    """Our kernels that spill; what a library's kernels do is its own choice."""
    return [usage for usage in found if usage.spills and not usage.library]
