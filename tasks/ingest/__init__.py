"""From source files to clean tables: reading, validation and features of a release or of event files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
