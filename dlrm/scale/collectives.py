"""Bytes and seconds of collective operations between P devices, each with one link of its own (the α-β model).

A message of n bytes takes `α + n / β`: α the network's latency, β its bandwidth in one direction (Thakur, Rabenseifner,
Gropp 2005, "Optimization of Collective Communication Operations in MPICH", section 3). Links carry both directions at
once, and devices do not disturb one another.
"""

from __future__ import annotations

from dataclasses import dataclass

from embpress.dlrm.scale.base import Network


@dataclass(frozen=True)
class Sent:
    """What each device sends, as much as it receives; it adds up.

    Attributes:
        bytes: by each device.
        messages: one after the other.
    """

    bytes: float = 0.0
    messages: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.bytes + other.bytes, self.messages + other.messages)

    def seconds(self, network: Network) -> float:
        """`messages · α + bytes / β`."""
        return self.messages * network.latency + self.bytes / network.bandwidth


def all_to_all(total: float, devices: int) -> Sent:
    """Every device has `total / P` bytes, of which each other device gets a P-th part (pairwise exchange).

    Bytes sent by each: `total (P - 1) / P²`, in `P - 1` messages (Thakur et al. 2005, section 6). In DLRM it is the
    "butterfly shuffle" between tables, which are sharded, and the rest, which is data-parallel (Naumov et al. 2019,
    section 3).
    """
    return Sent(total * (devices - 1) / devices**2, devices - 1)


def ring_all_reduce(size: float, devices: int) -> Sent:
    """The sum of `size` bytes of every device, on every device.

    Bytes sent by each: `2 size (P - 1) / P`, in `2 (P - 1)` messages, the fewest possible (Patarasuk and Yuan 2009,
    "Bandwidth optimal all-reduce algorithms for clusters of workstations").
    """
    return Sent(2 * size * (devices - 1) / devices, 2 * (devices - 1))
