"""What each table of a model should use: proposals, short trainings that try them, and what can be promised."""
