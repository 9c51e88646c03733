"""The settings of a retraining: one module a section, and the only place of each default.

Flows take these models as parameters, so the Prefect UI shows them as a typed form. A new setting belongs in the module of its
section. The settings of searches, comparisons and replays belong to `configs.studies`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
