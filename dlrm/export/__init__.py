"""A trained click model as files that run where embpress is not installed."""
