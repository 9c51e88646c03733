from .states import dated, ended, fails_with_a_sentence
from .summaries import summarise, summarise_retraining

__all__ = ["dated", "ended", "fails_with_a_sentence", "summarise", "summarise_retraining"]
