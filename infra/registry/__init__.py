"""The model registry: versions, which are sealed once, and the log of promotions, which names the champion.

`ModelRegistry` is the way in. Formats, digests and the chain of the log belong here. What is promoted is decided in `tasks.gate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
