"""What keeps the faults of plugins away from a run.

A plugin may raise, hang, crash, or return something else than scores. `faults` names it in one sentence, and `apart` loads its model
in another process.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
