"""From source files to clean tables: formats, validation, metadata and features of a release or of event files.

A new file format, a new check of rows, or a new feature belongs here. Storing the tables belongs to `tasks.datasets`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
