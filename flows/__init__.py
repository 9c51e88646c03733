"""The Prefect flows, one for each deployment, and the command line `recsys`.

A flow takes its settings in one of two ways. Deployments in Prefect databases name the parameters, so they stay as they are.

- One object: `retrain`, `train`, `search`, `compare` and `replay` take `settings`. They use most sections, and the object is what a
  version, study or report records.
- Sections: `etl`, `monitor`, `export`, `promote`, `rollback` and `rollout` take the sections that they use, and a few plain parameters. `retrain`
  and `replay` call `etl` with the sections of their own settings.

The form in the Prefect UI does not differ between the two (`flows.forms`): a preset, the settings that matter most to the flow, and
`advanced` for all others. A new flow takes sections if a person starts it and it uses few of them; otherwise it takes one object. A
flow that only passes on what others decided (`compare-run`, `reap`) takes what it needs.
"""

import os

# A run without a Prefect server starts a temporary one. On a busy machine, that takes longer than Prefect waits by default. The
# temporary server sends no telemetry.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# Prefect makes a span of each run and each task, and sends it where this process sends traces. That must be known before a flow starts.
if any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")):
    from configs.errors import SettingsError
    from infra.tracing import start_tracing

    try:
        start_tracing()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
