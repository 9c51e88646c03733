from .alerts import CHAMPION_AGES, DRIFT_DETECTED, DRIFT_WITHOUT_DATA, RETRAINING_DUE, model_resource
from .connection import make_ready, server_version
from .environment import HEARTBEAT_S, EnvironmentSettings
from .setup import left_over, set_up, set_up_by
from .upkeep import ALIVE, NO_HEARTBEAT
from .worker_logs import hearing_workers, send_records

__all__ = [
    "ALIVE",
    "CHAMPION_AGES",
    "DRIFT_DETECTED",
    "DRIFT_WITHOUT_DATA",
    "HEARTBEAT_S",
    "NO_HEARTBEAT",
    "RETRAINING_DUE",
    "EnvironmentSettings",
    "hearing_workers",
    "left_over",
    "make_ready",
    "model_resource",
    "send_records",
    "server_version",
    "set_up",
    "set_up_by",
]
