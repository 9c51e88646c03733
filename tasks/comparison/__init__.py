"""Comparisons of several models on one dataset: their runs, results and report."""
