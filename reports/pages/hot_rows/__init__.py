"""Which rows are looked up most, and what a cache of them would answer (TT-Rec, Figure 9)."""

TITLE = "Hot rows"
ABOUT = "how soon training shows which rows are looked up most, and how many lookups a cache of them would answer."
