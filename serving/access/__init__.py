"""Who may ask, what, and how often: API keys with scopes, and limits by key and by address.

What a request may cost is in `serving.api.bodies` and `serving.api.connections`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
