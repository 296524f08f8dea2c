"""The methods of the papers, as each is used best."""

METHODS = ("tt", "robe+int4", "qr", "mlet+int4", "hash")
