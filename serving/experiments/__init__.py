"""A/B experiments: assignment, exposures and their log, and the report with its validity checks.

What an experiment needs while it runs and afterwards belongs here. The statistics are in `models.evaluation`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
