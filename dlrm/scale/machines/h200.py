"""NVIDIA H200 SXM, 141 GB; rates of its datasheet as in `dlrm/bench/peaks.py`, memory of the same."""

from embpress.dlrm.bench.peaks import H200
from embpress.dlrm.scale.base import Machine

MACHINE = Machine.of(H200, memory=141e9)
