"""From scores to the list that is shown: business rules, diversity, and the choice of the top items.

A new action of a rule belongs here, and its schema in `configs.serving`. Scores come from `serving.engine`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
