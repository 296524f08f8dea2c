"""NVIDIA V100 32 GB SXM2; NVIDIA V100 datasheet: 32 GB HBM2, 900 GB/s, 15.7 TFLOP/s FP32; it has no TF32."""

from embpress.dlrm.scale.base import Machine

MACHINE = Machine("V100 32 GB SXM2", 32e9, 900e9, 15.7e12, source="NVIDIA V100 datasheet")
