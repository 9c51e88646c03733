"""What servers measure of the two versions of a rollout: its records in the store, which whoever decides reads.

What is measured is in `serving.rollout`, and what decides in `tasks.rollout`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
