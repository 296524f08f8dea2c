"""PCI Express 3.0 x16: 8 GT/s on 16 lanes, 128 of 130 bits are data: 15.75 GB/s in each direction."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("PCIe 3.0 x16", 8e9 * 16 * 128 / 130 / 8, source="PCI Express Base Specification 3.0")
