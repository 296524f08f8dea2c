"""The methods of the papers, as each is used best: what is trained is served in four bits."""

METHODS = ("tt+int4", "robe+int4", "qr+int4", "mlet+int4", "hash+int4")
