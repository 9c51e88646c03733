"""Benchmarks of the pipeline: data, drift, the gate, replay and rollback."""
