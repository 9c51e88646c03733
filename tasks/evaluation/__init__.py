"""The evaluation of trained candidates, and the folder of files that becomes a model version.

Here belong the measurement, the load check in a clean process, the audit of the protocol, and the pages and figures of an
evaluation. Metrics and tests come from `models.evaluation`. Whether a version is good enough is decided in `tasks.gate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
