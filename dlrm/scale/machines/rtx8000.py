"""NVIDIA Quadro RTX 8000; its datasheet: 48 GB GDDR6, 672 GB/s, 16.3 TFLOP/s FP32; it has no TF32."""

from embpress.dlrm.bench.sharing_paper import BANDWIDTH
from embpress.dlrm.scale.base import Machine

MACHINE = Machine("Quadro RTX 8000", 48e9, BANDWIDTH, 16.3e12, source="NVIDIA Quadro RTX 8000 datasheet")
