"""A year of an installation, day by day: `python -m benchmarks.year`."""
