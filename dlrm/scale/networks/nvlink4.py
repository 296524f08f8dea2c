"""NVLink 4, of the H100: 900 GB/s in both directions together, 450 GB/s in each."""

from embpress.dlrm.scale.base import Network

NETWORK = Network("NVLink 4", 450e9, source="NVIDIA H100 datasheet")
