"""Published cases, one file each: `CASE` says what is asked and what was published."""
