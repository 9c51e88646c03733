from .states import dated, ended, fails_with_a_sentence
from .summaries import begin_summary, summarise, summarise_retraining

__all__ = ["begin_summary", "dated", "ended", "fails_with_a_sentence", "summarise", "summarise_retraining"]
