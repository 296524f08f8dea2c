"""InfiniBand NDR: 400 Gb/s a port."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("InfiniBand NDR", 50e9, source="NVIDIA ConnectX-7 datasheet")
