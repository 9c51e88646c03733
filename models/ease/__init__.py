"""EASE (Steck 2019): one weight for each pair of items, in closed form.

`closed_form` computes the weights, `memory` refuses a catalogue that is too large for them, and `recommender` is the model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
