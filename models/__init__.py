"""Recommenders, the evaluation protocol, metrics and statistics.

A model reads events and requests as arrays, and writes its files into a folder. This package does not depend on Prefect, stores
or the network. Reading a dataset, and the decision on what a metric means for a version, belong to `tasks`.
"""
