"""How a flow run ends, as the Prefect UI shows it: its name, its state with one sentence, and its summary.

What these say belongs to `tasks.outcome` and to the packages of studies.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
