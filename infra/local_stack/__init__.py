"""Runs infra/compose.yaml without Docker, for a demo and for tests.

Each service's own command runs as a process on this machine. What a service does belongs to its own package: only how it is
started, watched and stopped belongs here.
"""
