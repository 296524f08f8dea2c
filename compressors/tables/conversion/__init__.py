"""Models that are there already: their embedding modules swapped for compressed tables, in place."""
