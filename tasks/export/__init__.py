"""What leaves the product: vectors, the best items of every user, and the model as a program, for other systems to read.

An export is a folder of Parquet files with the team's own ids. Its manifest is written last: a folder without one is not complete.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
