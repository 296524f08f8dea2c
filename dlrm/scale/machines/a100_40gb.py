"""NVIDIA A100 40 GB SXM; NVIDIA A100 datasheet: 40 GB HBM2, 1,555 GB/s, 19.5 TFLOP/s FP32, 156 TFLOP/s TF32 dense."""

from embpress.dlrm.scale.base import Machine

MACHINE = Machine("A100 40 GB SXM", 40e9, 1555e9, 19.5e12, 156e12, "NVIDIA A100 datasheet")
