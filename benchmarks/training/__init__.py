"""Benchmarks of training: speed, numerical parity, memory, and several GPUs."""
