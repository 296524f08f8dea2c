"""The tables of a calculation: one for each way to hold the embedding tables, a line for each number of devices."""

from __future__ import annotations

from embpress.compressors.guard import counted
from embpress.dlrm.scale.answer import Answer, Question
from embpress.dlrm.scale.step import Step
from embpress.reports import numerals

HEADERS = ("devices", "held", "moved", "sent", "memory", "network", "FLOPs", "step", "limit")


def title(one: Answer) -> str:
    """One way to hold the tables in a line: their size, where they lie, and how many devices that takes."""
    if one.serving_bytes is None:
        return f"{one.name}: {one.reason}"
    where = "sharded over the devices" if one.sharded else "copied to each device"
    needs = "too large for any number of them" if one.fewest is None else f"needs {counted(one.fewest, 'device')}"
    return f"{one.name}: tables of {numerals.size(one.serving_bytes)}, {where}; {needs}"


def rows(one: Answer) -> list[list[str]]:
    """A line by `HEADERS` for each number of devices; bytes and times are those of one device."""
    return [_cells(step) for step in one.steps]


def notes(question: Question) -> list[str]:
    """What the columns mean, and what was assumed."""
    work, hardware = question.work, question.hardware
    kind = "training step" if work.training else "step of inference"
    math = "TF32" if hardware.tf32 else "FP32"
    return [
        f"One {kind} of {work.batch:,} samples, {counted(len(work.rows), 'table')} of width {work.dim} "
        f"({sum(work.rows):,} rows, {numerals.size(work.full_bytes)}), {counted(work.lookups, 'id')} a table, "
        f"{work.optimizer}.",
        f"Each device: {hardware.machine.name}, {numerals.size(hardware.machine.memory)} of which "
        f"{100 * hardware.share:.0f} % may be filled, {numerals.size(hardware.machine.bandwidth)}/s, "
        f"{hardware.flops / 1e12:.1f} TFLOP/s ({math}); network {hardware.network.name}, "
        f"{numerals.size(hardware.network.bandwidth)}/s each way.",
        "Of one device, held: bytes in its memory; moved: read and written; sent: over the network; memory, network, "
        "FLOPs: what each takes at peak rates; step: from all of them overlapped to none. Starting kernels, the host "
        "and the reading of data are not counted. Second lines: the fewest devices that it fits on.",
    ]


def seconds(value: float) -> str:
    """Seconds as µs, ms or s."""
    if not value:
        return "0"
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{numerals.plain(value * factor, numerals.decimals_of(value * factor))} {unit}"
    return f"{numerals.plain(value, numerals.decimals_of(value))} s"


def _cells(step: Step) -> list[str]:
    low, high = seconds(step.at_least), seconds(step.at_most)
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return [
        f"{step.devices:,}",
        numerals.size(step.memory),
        numerals.size(step.traffic),
        numerals.size(step.sent),
        *(seconds(one) for one in (step.memory_s, step.network_s, step.flops_s)),
        f"{low}–{high}",
        step.limit if step.fits else "too full",
    ]
