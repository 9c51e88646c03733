"""Lineage of runs by OpenLineage: which run read and wrote which versions of datasets and models, for a catalogue of a team's own.

Off unless OPENLINEAGE_URL names a receiver or a file. A receiver that fails is warned of once and never fails a run. What the store
itself records of a version's origin does not depend on this package (`infra.registry`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
