from .batches import Batch, Batching, TrainingBatches
from .segments import Segments

__all__ = ["Batch", "Batching", "Segments", "TrainingBatches"]
