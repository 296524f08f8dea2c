"""How much smaller each method makes the tables before it costs so much AUC."""

TITLE = "The ratio that each method bears"
ABOUT = "how many times smaller each method makes the tables before test AUC falls 0.001, 0.005 and 0.02 below full's."
