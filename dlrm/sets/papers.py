"""The methods of the papers, as each is used best."""

METHODS = ("tt", "robe", "qr", "mlet", "hash")
