"""Load settings from files, environment variables and options, and say what is wrong with them.

`settings` puts the sources together, `sources` reads variables and options, and `faults` writes the sentences about mistakes.
`recorded` reads the settings that a version records.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
