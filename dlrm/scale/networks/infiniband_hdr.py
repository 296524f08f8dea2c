"""InfiniBand HDR: 200 Gb/s a port."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("InfiniBand HDR", 25e9, source="NVIDIA ConnectX-6 datasheet")
