"""Which rows are looked up most, and what a cache of them would answer (TT-Rec, Figure 9)."""
