"""Click data larger than memory: files become a folder of columns that are mapped and not read."""
