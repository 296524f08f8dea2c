"""Test AUC against rank and size of tensor-train tables."""

TITLE = "Rank of tensor-train tables"
ABOUT = "test AUC over the rank and over the bytes it costs, for each initialisation and cache that was run."
