"""Backs up the store, the Prefect server's database and Redis, and restores them.

Start it with `python -m infra.backup`. A backup is a store of its own (`file:` or `s3:`), in which each kind has a folder. A backup
counts when its record in `<kind>/done/` exists, which is written last.
"""
