"""Prefect tasks: each is a thin wrapper around a plain function of the other packages.

Names, retries, logs, artifacts and events of Prefect belong here, and nothing else in `tasks` imports Prefect. A stage opens what it
needs, calls the plain function, and shows the outcome.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
