"""One flow for each deployment; each reads as the story of its stages."""

import os

# A run without a Prefect server starts one of its own; on a busy machine that takes longer than Prefect waits by
# default. That server tells nobody about itself.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
