"""Tables on disk: Parquet of any age, the formats of files that others wrote, and sorts of tables larger than memory.

What knows nothing of events beyond their columns belongs here. The names of the columns are in `models.columns`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
