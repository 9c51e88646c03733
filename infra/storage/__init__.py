"""Object stores: a folder or an S3 prefix behind one interface, whose objects are created once."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
