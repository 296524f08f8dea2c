"""The methods of the papers, each served in four bits."""

METHODS = (
    *("tt+int4", "robe+int4", "qr+int4", "hash+int4", "mlet+int4", "lowrank+int4"),
    *("md+int4", "prune+int4", "dhe+int4", "sketch+int4", "cce+int4", "unified+int4"),
)
