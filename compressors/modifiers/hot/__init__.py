"""`+hot`: the most frequent rows of a table are exact, the method inside answers for the rest."""

from embpress.compressors.modifiers.hot.modifier import Hot

__all__ = ["Hot"]
