"""Pages of suites that have one of their own, by the suite's name: a class `Page`."""
