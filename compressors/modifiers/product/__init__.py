"""`+pq`: served by product quantisation."""

from embpress.compressors.modifiers.product.modifier import ProductQuantized

__all__ = ["ProductQuantized"]
