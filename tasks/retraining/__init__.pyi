from .answer import Answer, decide
from .facts import Look, decay_of, facts_of, position_of
from .policies import Facts, Standing, described, due
from .record import StoredAnswer, keep_answer

__all__ = [
    "Answer",
    "Facts",
    "Look",
    "Standing",
    "StoredAnswer",
    "decay_of",
    "decide",
    "described",
    "due",
    "facts_of",
    "keep_answer",
    "position_of",
]
