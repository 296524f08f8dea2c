"""Initial values of tensor-train tables (TT-Rec, Figure 3 and Table 1)."""
