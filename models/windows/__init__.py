"""From users' events to the steps of an epoch: windows of events, packed into token streams on the network's device.

Every network that reads a whole sequence in one pass is trained on these. `models.sequences` cuts the windows, and the loss and the
loop belong to `models.losses` and `models.training`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
