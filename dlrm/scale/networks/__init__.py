"""Networks by name, one file each: `NETWORK`, with where its numbers are from."""
