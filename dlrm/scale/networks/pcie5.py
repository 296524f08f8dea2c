"""PCI Express 5.0 x16: 32 GT/s on 16 lanes, 128 of 130 bits are data: 63 GB/s in each direction."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("PCIe 5.0 x16", 32e9 * 16 * 128 / 130 / 8, source="PCI Express Base Specification 5.0")
