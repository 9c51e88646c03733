"""Run infra/compose.yaml without Docker, for a demo and for tests.

Each service's own command runs as a process on this machine.
"""
