"""What every table of a model uses: plans, and how a budget is split."""
