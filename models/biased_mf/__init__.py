"""Biased matrix factorisation (Koren, Bell and Volinsky 2009): it predicts ratings, and ranks by them.

`least_squares` solves for the vectors of users or items, and `recommender` is the model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
