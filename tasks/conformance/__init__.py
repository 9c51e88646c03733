"""`recsys model check`: does a kind of model keep what the port promises? Its author runs this first.

What a model must do on invented data belongs here. The gate judges how good a model is, and `tasks.evaluation` whether one stored
version answers as it was trained.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
