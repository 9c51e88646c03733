"""Ratings: their means, what is left of them after users and items, and a linear head on the features of a trained model.

A head is fitted after the ranking was learnt, on features that it does not change. So it cannot change a ranking.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
