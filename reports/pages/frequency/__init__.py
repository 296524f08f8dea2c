"""Scores by how frequent ids are."""

TITLE = "AUC, log loss and calibration by id frequency"
ABOUT = "what each method loses on head, torso, tail and unseen ids."
