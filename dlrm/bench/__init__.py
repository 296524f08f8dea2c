"""Speed: suites of cases, timers, what is held against what, and rooflines."""
