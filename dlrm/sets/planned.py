"""What `embpress plan` tries for whole models, at several widths: strong where memory is short, and quick to train."""

METHODS = (
    *("full", "full+int8", "full+int4", "full+int2:train=true", "mlet", "mlet+int4", "mlet+int2:train=true"),
    *("top+int4", "robe+int4", "unified+int4", "qr+int4", "hash+int4", "lowrank+int4", "md+int4", "tt+int4"),
    *("prune+int4", "hash+hot:fraction=0.01+int4", "robe+hot:fraction=0.01+int4"),
)
