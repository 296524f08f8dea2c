"""Style, labels and saving of plots."""
