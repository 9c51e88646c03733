"""Popularity, the simplest baseline: items with the most interactions first, the same for every user.

`recommender` counts the events of the train part, and `inference` serves the counts without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
