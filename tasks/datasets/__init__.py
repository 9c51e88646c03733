"""Dataset versions in the store: written once, named by their content, read back, verified and removed.

Here belong both kinds of versions (made of a release, or of parts that landed files add), their digests, and the log of landed
files. How source files become tables is decided in `tasks.ingest`, and when files are added in `tasks.landing`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
