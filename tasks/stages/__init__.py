"""Prefect tasks: each is a thin wrapper around a plain function of the other packages."""
