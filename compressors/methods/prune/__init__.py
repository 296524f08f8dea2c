"""Magnitude pruning: only the largest elements stay, packed with where they are (Zhu and Gupta 2017)."""

from embpress.compressors.methods.prune.table import Prune

__all__ = ["Prune"]
