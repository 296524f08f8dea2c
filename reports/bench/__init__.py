"""Pages on benchmarks."""
