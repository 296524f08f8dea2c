"""What GPUs can do at most, by their vendor's datasheets: the denominators of a roofline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """Rates of one GPU.

    Attributes:
        name: as people say it.
        label: how `torch.cuda.get_device_name` names it, or the part of it that tells it from others.
        fp32: FLOP/s outside the tensor cores.
        tf32: FLOP/s of dense matrix products in the tensor cores, inputs rounded to TF32.
        bandwidth: bytes/s of the device memory.
        source: where the three are from.
        copied: bytes/s, read plus written, that a large copy within the device memory was seen to move; None where
            nobody has looked. Rooflines use `bandwidth`.
    """

    name: str
    label: str
    fp32: float
    tf32: float
    bandwidth: float
    source: str
    copied: float | None = None


A100 = Peak(
    "A100 80 GB SXM",
    "A100-SXM4-80GB",
    fp32=19.5e12,
    tf32=156e12,
    bandwidth=2039e9,
    source="NVIDIA A100 datasheet: 19.5 TFLOP/s FP32, 156 TFLOP/s TF32 dense, 2,039 GB/s HBM2e",
)
H100 = Peak(
    "H100 80 GB SXM",
    "H100 80GB HBM3",
    fp32=67e12,
    tf32=494.7e12,
    bandwidth=3.35e12,
    source="NVIDIA H100 datasheet: 67 TFLOP/s FP32, 989.4 TFLOP/s TF32 with sparsity (494.7 dense), 3.35 TB/s HBM3",
    copied=3.0e12,
)
H200 = Peak(
    "H200 SXM",
    "H200",
    fp32=67e12,
    tf32=494.7e12,
    bandwidth=4.8e12,
    source="NVIDIA H200 datasheet: 67 TFLOP/s FP32, 989 TFLOP/s TF32 with sparsity (494.7 dense), 4.8 TB/s HBM3e",
    copied=4.3e12,
)
PEAKS = (A100, H100, H200)


def peak_of(device_name: str) -> Peak | None:
    """The GPU that torch calls so, or None where its datasheet is not written down here."""
    return next((peak for peak in PEAKS if device_name.removeprefix("NVIDIA ").endswith(peak.label)), None)
