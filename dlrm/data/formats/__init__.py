"""File formats of click data, one file each."""
