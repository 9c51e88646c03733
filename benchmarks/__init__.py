"""One command for each claim. They write their results to results/, from which the tables of docs/benchmarks are generated."""
