"""Public data sets by name, one file each: its first line says what it is, `DATASET` how it is read."""
