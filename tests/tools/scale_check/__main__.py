"""Measures this machine and prints what `embpress scale` predicts of steps by that beside what they take.

    python tests/tools/scale_check

One process with one thread stands for one device. Predicted are the sums of memory, network and FLOPs, since a CPU
overlaps none of them. Of two processes: the ring formula's time of an all-reduce by the bandwidth and latency that two
other sizes show, and a whole data-parallel step. The real ones also start kernels, call Python and update the MLPs: the
ratio is what the formulas leave out.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import processes
import rates
import steps
import torch

from embpress.compressors import parse
from embpress.dlrm.scale.base import Network
from embpress.dlrm.scale.collectives import ring_all_reduce
from embpress.dlrm.scale.step import Hardware, step
from embpress.dlrm.scale.tables import Tables


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--copy-mb", type=int, default=256)
    parser.add_argument("--rows", type=int, default=200_000, help="of each of the tables")
    parser.add_argument("--tables", type=int, default=8)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--ratios", type=float, nargs="+", default=[16.0, 256.0])
    parser.add_argument("--reduced-mb", type=float, nargs="+", default=[0.25, 1, 4, 16, 64])
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = rates.machine(options.copy_mb << 20, options.seconds)
    print(f"memory: {machine.bandwidth / 1e9:.1f} GB/s of a copy; matrix products: {machine.fp32 / 1e9:.0f} GFLOP/s")
    rows = rates.random_rows(options.copy_mb << 20, options.dim, 65_536, options.seconds)
    print(f"rows of {4 * options.dim} bytes at random: {rows / 1e9:.1f} GB/s")
    one_process(options, machine)
    network = all_reduces(options)
    two_processes(options, machine, network)


def line(what, predicted, measured):
    print(
        f"{what:<34} predicted {1e3 * predicted:9.3f} ms  real {1e3 * measured:9.3f} ms  {measured / predicted:6.2f}x"
    )


def cases(options):
    """Method, ratio and whether it is full tables."""
    return [("full", None, True), *(("robe:z=32", ratio, False) for ratio in options.ratios)]


def name(method, ratio):
    return method if ratio is None else f"{method} {ratio:g}x"


def one_process(options, machine):
    """Steps of one process."""
    hardware = Hardware(machine, Network("none", 1e15))
    for method, ratio, full in cases(options):
        for batch in options.batches:
            shape = ([options.rows] * options.tables, options.dim, batch)
            work = steps.workload(*shape)
            tables = Tables(parse(method), work, ratio=ratio, shared=not full)
            predicted = step(work, tables, hardware, 1, sharded=full)
            call, _ = steps.made(*shape, method, ratio)
            line(f"1 process, {name(method, ratio)}, {batch}", predicted.at_most, rates.best(call, options.seconds))


def all_reduces(options):
    """All-reduces of two processes, by the smallest and the largest; the network that these two show."""
    sizes = [int(mb * 1e6) // 8 * 8 for mb in sorted(options.reduced_mb)]
    times = processes.timed([("all_reduce", (15, size)) for size in sizes])
    sent = [ring_all_reduce(size, processes.WORLD) for size in sizes]
    bandwidth = (sent[-1].bytes - sent[0].bytes) / max(times[-1] - times[0], 1e-9)
    latency = max(0.0, times[0] - sent[0].bytes / bandwidth) / sent[0].messages
    network = Network("gloo", bandwidth, latency, "measured")
    print(f"gloo: {bandwidth / 1e9:.2f} GB/s, {1e6 * latency:.0f} µs a message, by the first and the last of these")
    for size, one, taken in zip(sizes, sent, times):
        line(f"2 processes, all-reduce, {size / 1e6:g} MB", one.seconds(network), taken)
    return network


def two_processes(options, machine, network):
    """Data-parallel steps of two processes; each has half the batch."""
    asked, jobs, predicted = [], [], []
    for method, ratio, full in cases(options):
        for batch in () if full else options.batches:
            shape = ([options.rows] * options.tables, options.dim, batch)
            work = steps.workload(*shape)
            tables = Tables(parse(method), work, ratio=ratio, shared=True)
            predicted.append(step(work, tables, Hardware(machine, network), processes.WORLD, sharded=False).at_most)
            half = {"rows": shape[0], "dim": shape[1], "batch": batch // processes.WORLD}
            jobs.append(("step", (7, {**half, "method": method, "ratio": ratio})))
            asked.append(f"2 processes, {name(method, ratio)}, {batch}")
    for what, ours, taken in zip(asked, predicted, processes.timed(jobs)):
        line(what, ours, taken)


if __name__ == "__main__":  # spawned processes import it
    main()
