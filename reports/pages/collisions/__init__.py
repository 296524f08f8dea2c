"""Which ids share stored rows and cells."""

TITLE = "Collisions"
ABOUT = (
    "how many ids and lookups of each table share their row, or a part of it, with other ids; measured and by chance."
)
