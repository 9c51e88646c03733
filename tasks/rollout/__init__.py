"""A rollout after a promotion: what servers measured of the old and the new version decides whether it goes on, and why.

Assignment and measuring are in `serving.rollout`, and the steps of the log in `infra.registry`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
