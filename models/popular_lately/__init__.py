"""Popular lately: the items with the most recent events before the request, the same for every user.

`counts` adds up the events before any time, and `recommender` is the model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
