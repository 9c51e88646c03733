"""What the product costs beside a fixed reference, in a few minutes: `python -m benchmarks.ratios`."""
