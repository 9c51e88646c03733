"""The settings of the API and the demo, and the models of the files of business rules and experiments.

A setting that only serving reads belongs here. The code that applies rules and assigns users to experiments belongs to
`serving`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
