"""`recsys data`: the stored dataset versions, the landed files, and the objects of the store.

`commands` has the commands, and `own_ids` finds the users and items that a team names by its own ids.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
