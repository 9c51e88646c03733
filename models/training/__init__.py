"""The training loop that gradient models share: optimizer, early stopping and its ranking, checkpoints, several GPUs, CUDA graphs.

It trains any network whose steps it is given. Batches belong to `models.windows`, or to the model, and losses to `models.losses`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
