"""Recommenders, protocols and metrics. Nothing here knows of Prefect, stores or the network."""
