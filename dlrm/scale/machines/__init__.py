"""Devices by name, one file each: `MACHINE`, with where its numbers are from."""
