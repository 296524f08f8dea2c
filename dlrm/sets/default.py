"""Full tables, the strong baselines, and the papers' methods as each is used best."""

METHODS = ("full", "tt", "robe", "qr", "mlet")
