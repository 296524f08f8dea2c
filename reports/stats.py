"""Mean and spread over seeds, and differences paired by seed: those of `embpress.dlrm.measure.paired`."""

from embpress.dlrm.measure.paired import CONFIDENCE, Difference, Stat, paired, stat

__all__ = ["CONFIDENCE", "Difference", "Stat", "paired", "stat"]
