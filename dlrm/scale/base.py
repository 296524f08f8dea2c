"""What a device and a network can do."""

from __future__ import annotations

from dataclasses import dataclass

from embpress.dlrm.bench.peaks import Peak


@dataclass(frozen=True)
class Machine:
    """One device.

    Attributes:
        name: as people say it.
        memory: bytes.
        bandwidth: bytes/s of its memory.
        fp32: FLOP/s outside tensor cores.
        tf32: FLOP/s of matrix products in tensor cores, inputs rounded to TF32; None where it has none.
        source: where these are from.
    """

    name: str
    memory: float
    bandwidth: float
    fp32: float
    tf32: float | None = None
    source: str = "given"

    @classmethod
    def of(cls, peak: Peak, memory: float) -> Machine:
        """The GPU whose rates are written down for rooflines."""
        return cls(peak.name, memory, peak.bandwidth, peak.fp32, peak.tf32, peak.source)


@dataclass(frozen=True)
class Network:
    """The link that each device has to all others.

    Attributes:
        name: as people say it.
        bandwidth: bytes/s in one direction.
        latency: seconds before the first byte of a message.
        source: where these are from.
    """

    name: str
    bandwidth: float
    latency: float = 0.0
    source: str = "given"
