"""What plans promised, and what their runs gave."""

TITLE = "What plans promised"
ABOUT = "bytes, AUC and times that `embpress plan` expected of the plans among the runs, beside what was measured."
