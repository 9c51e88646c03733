"""Serves to Prometheus what no server knows about itself: the age of the champion, the last drift, runs that fail or are late, what
rented GPUs cost this month, free disk, the end of a certificate, and the age of the backups.

Start it with `python -m infra.exporter`. It reads the store, the Prefect server's REST API and the folder of backups.
"""
