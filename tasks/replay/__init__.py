"""Replays of past events slice by slice, which show what each retraining policy would have been worth.

Here belong the feed of slices, planted shifts, the policies, the log of a replay, and its results, figures and report. The steps
of a slice (etl, monitoring, training, gate) are those of a real retraining. They belong to other packages, and `flows.replay`
calls them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
