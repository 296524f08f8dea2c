"""What a step of a click model takes on many devices: full tables sharded over them against compressed ones on each.

A calculator of stated formulas, each in the docstring of what computes it; nothing is measured.
"""
