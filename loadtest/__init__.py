"""Load tests and benchmarks of Hopcount. Nothing here is needed to serve."""
