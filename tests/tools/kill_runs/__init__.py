"""Kills comparisons at random moments and holds what they make against one that was left alone."""
