"""Read event files of any shape: which columns they have, how ids and times are written, and which rows are good.

What concerns several files, or what is done with the events, belongs to `tasks.ingest`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
