"""Click models, one file each."""
