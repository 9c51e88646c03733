"""The training loop that gradient models share: optimizer, early stopping, checkpoints, several GPUs, CUDA graphs.

It trains any network whose steps it is given. Batches, losses and metrics belong to the model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
