"""The Prefect flows, one for each deployment, and the command line `recsys`."""

import os

# A run without a Prefect server starts a temporary one. On a busy machine, that takes longer than Prefect waits by default. The
# temporary server sends no telemetry.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
