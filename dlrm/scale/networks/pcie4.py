"""PCI Express 4.0 x16: 16 GT/s on 16 lanes, 128 of 130 bits are data: 31.5 GB/s in each direction."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("PCIe 4.0 x16", 16e9 * 16 * 128 / 130 / 8, source="PCI Express Base Specification 4.0")
