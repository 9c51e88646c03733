"""Recommenders, evaluation protocols and metrics. This package does not depend on Prefect, stores or the network."""
