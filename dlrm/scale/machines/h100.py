"""NVIDIA H100 80 GB SXM; rates of its datasheet as in `dlrm/bench/peaks.py`, memory of the same."""

from embpress.dlrm.bench.peaks import H100
from embpress.dlrm.scale.base import Machine

MACHINE = Machine.of(H100, memory=80e9)
