"""Comparisons with a model and data of the user's own."""
