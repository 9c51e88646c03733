"""First-order Markov chain: what users chose next after the item that the user had last.

`spec` has its settings, and `recommender` counts the transitions of the train part.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
