"""NVLink 3, of the A100: 600 GB/s in both directions together, 300 GB/s in each."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("NVLink 3", 300e9, source="NVIDIA A100 datasheet")
