"""infra/compose.yaml without Docker: each service's own command as a process of this machine, for a look and for tests."""
