from .alerts import DRIFT_DETECTED, model_resource
from .environment import EnvironmentSettings
from .setup import set_up

__all__ = ["DRIFT_DETECTED", "EnvironmentSettings", "model_resource", "set_up"]
