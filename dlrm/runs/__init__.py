"""One run, many runs, and the records they leave."""
