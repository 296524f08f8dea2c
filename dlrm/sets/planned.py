"""What `embpress plan` tries for whole models, at several widths: strong where memory is short, and quick to train."""

METHODS = (
    *("full+int4", "mlet+int4", "top+int4", "robe+int4", "full", "mlet", "full+int8", "unified+int4"),
    *("full+int2:train=true", "mlet+int2:train=true", "lowrank+int4", "md+int4", "qr+int4", "hash+int4", "tt+int4"),
    *("prune+int4", "hash+hot:fraction=0.01+int4", "robe+hot:fraction=0.01+int4"),
)
