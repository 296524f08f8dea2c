"""TT-Rec: a table as a train of small cores (Yin et al. 2021)."""

from embpress.compressors.methods.tt.table import TTRec

__all__ = ["TTRec"]
