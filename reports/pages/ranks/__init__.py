"""Test AUC against rank and size of tensor-train tables."""
