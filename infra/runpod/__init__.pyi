from .account import Rented, rented, sweep
from .block import RunPodCredentials
from .cost import PodCost
from .prefect_runs import account_filter, accounts_in

__all__ = ["PodCost", "Rented", "RunPodCredentials", "account_filter", "accounts_in", "rented", "sweep"]
