"""Pareto fronts of AUC over serving bytes, training bytes and lookup latency."""

TITLE = "Pareto fronts"
ABOUT = "which methods no other beats in AUC and in bytes to serve, bytes to train, or lookup latency."
