"""The pages of the store, for a browser: read-only, within bounds, and with headers that give planted markup nothing to do.

`recsys serve` and `recsys demo` both serve them. What a page shows belongs to the package that makes the page.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
