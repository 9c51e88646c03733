"""Object stores: a folder or an S3 prefix behind one interface, whose objects can be created exactly once.

A new kind of store belongs here, with its errors turned into those of `configs.errors`. What the objects mean does not: datasets
belong to `tasks.datasets`, and versions to `infra.registry`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
