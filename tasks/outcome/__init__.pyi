from .answers import Answers, Cost, cost_answer, data_answer, drift_answer, verdict_answer
from .summary import Retraining, answers_of, headline_figures, summary_markdown

__all__ = [
    "Answers",
    "Cost",
    "Retraining",
    "answers_of",
    "cost_answer",
    "data_answer",
    "drift_answer",
    "headline_figures",
    "summary_markdown",
    "verdict_answer",
]
