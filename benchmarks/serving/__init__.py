"""Benchmarks of the API: latency under load, mixed traffic, and business rules."""
