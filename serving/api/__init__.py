"""The HTTP API: routes, request and response bodies, problem responses, and the middleware around them.

What HTTP knows belongs here. What answers a request is in `serving.engine`, behind `serving.worker`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
