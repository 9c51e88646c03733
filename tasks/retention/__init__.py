"""What a store may forget: one plan over everything that grows with time, and its execution.

Datasets and model versions have plans of their own (`tasks.datasets`, `tasks.gate`). What lineage, a rollback or an erasure needs stays.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
