"""The same runs at equal bytes, after equal epochs and in equal time."""

TITLE = "Equal bytes, equal epochs, equal time"
ABOUT = "test AUC at the size asked for, after as many epochs and in as many seconds as full tables take."
