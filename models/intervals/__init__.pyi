from .buckets import BUCKETS, EDGES
from .embedding import IntervalEmbedding
from .units import refuse_milliseconds

__all__ = ["BUCKETS", "EDGES", "IntervalEmbedding", "refuse_milliseconds"]
