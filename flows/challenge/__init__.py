"""What every challenger goes through: training, evaluation, gate, approval by a person, publication, and promotion if it passes.

The flows that end with a decision (`retrain`, `search`, `replay`) call these stages. The stages' own work belongs to `tasks`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
