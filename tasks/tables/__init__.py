"""Tables on disk: the names of their columns, Parquet files, and sorts of tables larger than memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
