"""Full tables, the strong baselines, and the papers' methods served in four bits."""

METHODS = ("full", "full+int4", "narrow+int4", "top+int4", "tt+int4", "robe+int4", "qr+int4", "mlet+int4")
