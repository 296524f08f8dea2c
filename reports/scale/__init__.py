"""What `embpress scale` says: the rows of its table, and its page in markdown."""
