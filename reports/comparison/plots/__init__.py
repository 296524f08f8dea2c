"""The plots of a report, one module each; the module's name is the file's.

Each has a `TITLE`, a `CAPTION` of a sentence or two, and `draw(rows)`, which gives a figure of the summary's rows, or
None where there is nothing to draw.
"""
