"""Benchmarks of ranking quality: our models, RecBole's, the search, and the audit of the protocol."""
