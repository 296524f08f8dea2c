"""The report of a run folder: its first sentences, tables, plots and protocol."""
