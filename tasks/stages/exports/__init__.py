"""The task that exports a model version, and its artifact in the Prefect UI.

What an export contains, and how it is written, belongs to `tasks.export`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
