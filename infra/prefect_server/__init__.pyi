from .automations import DRIFT_DETECTED, model_resource
from .setup import set_up

__all__ = ["DRIFT_DETECTED", "model_resource", "set_up"]
