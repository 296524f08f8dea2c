"""A method and a modifier for embpress, found by their entry points."""
