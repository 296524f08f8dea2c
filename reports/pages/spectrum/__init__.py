"""Singular values of trained tables, of two factors and of one (MLET, section 2.2.1)."""

TITLE = "Spectrum of the tables"
ABOUT = "whether tables that were trained as two factors (MLET) have a lower effective rank, and which cost no memory."
