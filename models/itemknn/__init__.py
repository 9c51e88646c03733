"""ItemKNN: items that are like those of the user's history, by the cosine of who has both.

`similarity` finds the neighbours of each item and how recent an event is, and `recommender` is the model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
