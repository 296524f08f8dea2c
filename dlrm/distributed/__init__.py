"""One run in more than one process: every batch is divided among them, and all hold the same model."""
