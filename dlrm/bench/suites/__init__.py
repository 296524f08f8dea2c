"""Suites of cases, one an op or scenario; a file here is a suite, its first line says what it measures."""
