from .account import Rented, rented, sweep
from .block import RunPodCredentials
from .errors import PodError, SettingsError
from .job import RunPodJobConfiguration, RunPodVariables
from .pods.cost import PodCost
from .prefect_runs import account_filter, accounts_in
from .project import Project, adopt
from .settings import POOL_TYPE, RunPodSettings
from .worker import RunPodWorker, RunPodWorkerResult

__all__ = [
    "POOL_TYPE",
    "PodCost",
    "PodError",
    "Project",
    "Rented",
    "RunPodCredentials",
    "RunPodJobConfiguration",
    "RunPodSettings",
    "RunPodVariables",
    "RunPodWorker",
    "RunPodWorkerResult",
    "SettingsError",
    "account_filter",
    "accounts_in",
    "adopt",
    "rented",
    "sweep",
]
