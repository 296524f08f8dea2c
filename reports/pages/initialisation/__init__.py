"""Initial values of tensor-train tables (TT-Rec, Figure 3 and Table 1)."""

TITLE = "Initial values of tensor-train tables"
ABOUT = "the distribution of a table's entries under each initialisation, and how far it is from a full table's."
