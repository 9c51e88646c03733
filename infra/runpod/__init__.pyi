from .account import rented, sweep
from .settings import RunPodSettings

__all__ = ["RunPodSettings", "rented", "sweep"]
