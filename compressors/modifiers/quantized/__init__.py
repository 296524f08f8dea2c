"""`+int8`, `+int4`, `+int2`: served in few bits."""

from embpress.compressors.modifiers.quantized.modifier import Int2, Int4, Int8, Quantized

__all__ = ["Int2", "Int4", "Int8", "Quantized"]
