"""How sure differences are: over seeds, over test rows, over both, and corrected for how many there are."""
