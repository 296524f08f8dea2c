"""Epochs and seconds to a target AUC."""

TITLE = "Epochs and seconds to a target AUC"
ABOUT = "how long each method trains to the full tables' best validation AUC, or nearly (`--target` sets another)."
