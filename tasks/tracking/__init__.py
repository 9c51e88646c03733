"""The record of each trained model's run, and the tracker that follows the run. Tracking never fails or delays a run.

Here belong the records, the interface `Tracker`, and its implementation for Weights & Biases and MLflow. Stages start and end trackers.
What a run measured is decided elsewhere; this package only keeps it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
