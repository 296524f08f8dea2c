"""The methods of the papers, as each is used best."""

METHODS = (
    *("tt", "robe+int4", "qr", "hash", "mlet+int4"),
    *("lowrank", "md", "prune", "dhe", "sketch", "cce", "unified"),
)
