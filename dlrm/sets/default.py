"""Full tables, the strong baselines, and the papers' methods as each is used best."""

METHODS = ("full", "full+int4", "narrow", "narrow+int4", "tt", "robe+int4", "qr", "mlet+int4")
