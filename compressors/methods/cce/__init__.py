"""CCE: rows of clustered ids and of hashed ones, added in chunks (Tsang and Ahle 2023)."""

from embpress.compressors.methods.cce.table import CCE

__all__ = ["CCE"]
