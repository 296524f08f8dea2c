"""NVIDIA A100 80 GB SXM; rates of its datasheet as in `dlrm/bench/peaks.py`, memory of the same."""

from embpress.dlrm.bench.peaks import A100
from embpress.dlrm.scale.base import Machine

MACHINE = Machine.of(A100, memory=80e9)
