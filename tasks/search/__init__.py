"""The search for hyperparameters of the challenger: one study in a database, which several workers share.

Here belong the study's definition, the workers that train trials, and the record of the results. The search space is part of the
settings, and a single trial is trained by `models.search`. The best settings enter the gate like any challenger, outside this
package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
