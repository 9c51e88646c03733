"""The evaluation protocol, full ranking, metrics, and their statistics, for every model in the same way.

What turns rankings into numbers, intervals and tests belongs here. Which numbers promote a model is decided in `tasks.gate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
