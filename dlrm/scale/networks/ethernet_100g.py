"""Ethernet of 100 Gb/s a port."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("100 Gb Ethernet", 12.5e9, source="IEEE 802.3")
