"""Further pages of a report, one folder each: the page, what it shows, its plot."""
