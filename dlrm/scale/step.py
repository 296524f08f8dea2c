"""What one step moves, sends and computes on each of P devices, and how long that takes at least.

Two layouts. *Sharded*: every device holds a P-th part of all full tables and of their optimizer state, and answers all
samples for its part; the pooled rows go to the devices of their samples, and their gradients back (Naumov et al. 2019,
section 3). *Copied*: every device holds all of the compressed tables and answers its own samples; the gradients of
their parameters are summed, as those of the MLPs are in both layouts (data-parallel training).

Bytes of memory are counted as in a roofline (Williams, Waterman, Patterson 2009): what is read and written once counts
once, nothing stays in a cache between two passes. A compressed row counts as if it were read element by element as a
full one is, D elements; methods that compute their rows (tt, dhe, mlet) do more, which is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from embpress.dlrm.scale.base import Machine, Network
from embpress.dlrm.scale.collectives import Sent, all_to_all, ring_all_reduce
from embpress.dlrm.scale.tables import Tables
from embpress.dlrm.scale.workload import ID, STATE, VALUE, Workload

MOST_DEVICES = 1 << 20  # that are looked at


@dataclass(frozen=True)
class Hardware:
    """The devices.

    Attributes:
        machine, network: of every device.
        tf32: matrix products run in tensor cores.
        share: of a device's memory that may be filled.
    """

    machine: Machine
    network: Network
    tf32: bool = False
    share: float = 0.9

    @property
    def room(self) -> float:
        """Bytes of a device that may be filled."""
        return self.share * self.machine.memory

    @property
    def flops(self) -> float:
        """FLOP/s of matrix products."""
        return self.machine.tf32 if self.tf32 and self.machine.tf32 else self.machine.fp32


@dataclass(frozen=True)
class Step:
    """One step, by device; bytes, and seconds at peak rates.

    Attributes:
        devices: P.
        memory: bytes held.
        fits: they fit in a device.
        traffic: bytes read and written by lookups, MLPs and interaction, and updates.
        sent: bytes sent over the network.
        flops: of MLPs and interaction.
        memory_s, network_s, flops_s: what each takes alone.
    """

    devices: int
    memory: float
    fits: bool
    traffic: float
    sent: float
    flops: float
    memory_s: float
    network_s: float
    flops_s: float

    @property
    def at_least(self) -> float:
        """Seconds where all three overlap: the longest."""
        return max(self.memory_s, self.network_s, self.flops_s)

    @property
    def at_most(self) -> float:
        """Seconds at the same peak rates where nothing overlaps: their sum."""
        return self.memory_s + self.network_s + self.flops_s

    @property
    def limit(self) -> str:
        """What takes longest: `memory`, `network` or `FLOPs`."""
        times = {"memory": self.memory_s, "network": self.network_s, "FLOPs": self.flops_s}
        return max(times, key=lambda name: times[name])


def held_bytes(work: Workload, tables: Tables, devices: int, sharded: bool) -> float:
    """Bytes of a device: tables, MLPs with gradients and optimizer state, and what the forward keeps of its samples.

    Sharded: a P-th part of what the tables' ledger says for all samples. Copied: the ledger for the device's samples.
    """
    own = -(-work.batch // devices)
    copies = 2 + STATE[work.optimizer] if work.training else 1
    held = tables.memory(work.batch) / devices if sharded else tables.memory(own)
    return held + copies * VALUE * work.dense_parameters + VALUE * own * work.activations


def row_traffic(work: Workload, samples: float) -> float:
    """Bytes of the lookups of so many samples in all tables, forward and gradient, without any update.

    Forward: ids `8 T L`, rows `4 T L D` read, pooled rows `4 T D` written; backward: the pooled rows' gradients
    `4 T D` read.
    """
    count = len(work.rows) * samples
    forward = count * (work.lookups * (ID + VALUE * work.dim) + VALUE * work.dim)
    return forward + count * VALUE * work.dim if work.training else forward


def dense_traffic(work: Workload, devices: int) -> float:
    """Bytes of MLPs and interaction with M weights, data-parallel: `4 moved` a sample and the weights once.

    In training three times what the samples move, as for FLOPs, and of the weights 6 M and their state: read forward
    and backward, gradients written and read by the optimizer, which reads and writes the weights.
    """
    samples = (3 if work.training else 1) * work.batch / devices * work.moved
    weights = (6 + 2 * STATE[work.optimizer] if work.training else 1) * work.dense_parameters
    return VALUE * (samples + weights)


def sharded_traffic(work: Workload, tables: Tables, devices: int) -> float:
    """Bytes of a device with a P-th part of full tables: `row_traffic` of all samples, divided by P.

    In training every row that is looked up is read and written once more, and its optimizer state with it, in
    proportion to the bytes that the ledger has for it.
    """
    forward = row_traffic(work, work.batch)
    if work.training:
        rows = len(work.rows) * work.batch * work.lookups * VALUE * work.dim
        forward += 2 * rows * (1 + tables.state_bytes / tables.gradient_bytes)
    return forward / devices


def copied_traffic(work: Workload, tables: Tables, devices: int) -> float:
    """Bytes of a device with all C bytes of compressed parameters: `row_traffic` of its own samples.

    In training: every element of every row is added to a dense gradient (read and written, `8 T L D` a sample), which
    is cleared first (C) and read by the optimizer (C), which reads and writes the parameters (2 C) and their state.
    """
    own = work.batch / devices
    moved = row_traffic(work, own)
    if work.training:
        moved += 2 * len(work.rows) * own * work.lookups * VALUE * work.dim
        moved += 4 * tables.gradient_bytes + 2 * tables.state_bytes
    return moved


def sharded_sent(work: Workload, devices: int) -> Sent:
    """Ids to the devices of their tables, pooled rows back, in training their gradients and the MLPs' all-reduce."""
    count = len(work.rows) * work.batch
    pooled = all_to_all(count * VALUE * work.dim, devices)
    sent = all_to_all(count * work.lookups * ID, devices) + pooled
    return sent + pooled + _of_mlps(work, devices) if work.training else sent


def copied_sent(work: Workload, tables: Tables, devices: int) -> Sent:
    """The all-reduce of the gradients of the compressed parameters and of the MLPs; nothing at inference."""
    return ring_all_reduce(tables.gradient_bytes, devices) + _of_mlps(work, devices) if work.training else Sent()


def _of_mlps(work: Workload, devices: int) -> Sent:
    return ring_all_reduce(VALUE * work.dense_parameters, devices)


def step(work: Workload, tables: Tables, hardware: Hardware, devices: int, sharded: bool) -> Step:
    """One step on P devices; `traffic / bandwidth`, `α · messages + sent / β`, `flops / peak`."""
    held = held_bytes(work, tables, devices, sharded)
    traffic = (sharded_traffic if sharded else copied_traffic)(work, tables, devices) + dense_traffic(work, devices)
    sent = sharded_sent(work, devices) if sharded else copied_sent(work, tables, devices)
    if devices == 1:
        sent = Sent()
    flops = work.flops * work.batch / devices
    return Step(
        devices=devices,
        memory=held,
        fits=held <= hardware.room,
        traffic=traffic,
        sent=sent.bytes,
        flops=flops,
        memory_s=traffic / hardware.machine.bandwidth,
        network_s=sent.seconds(hardware.network),
        flops_s=flops / hardware.flops,
    )


def fewest_devices(work: Workload, tables: Tables, hardware: Hardware, sharded: bool) -> int | None:
    """The fewest devices on which it fits; None where no number up to 2^20 is enough.

    More devices never need more bytes each, so that halving finds it.
    """

    def fits(devices: int) -> bool:
        return held_bytes(work, tables, devices, sharded) <= hardware.room

    if not fits(MOST_DEVICES):
        return None
    low, high = 0, 1
    while not fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
