"""How each format is read in blocks, one file each."""
