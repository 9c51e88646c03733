from .comparison import CHECKS, Check, Evidence, compare_versions
from .deciding import Move, Standing, Worker, decide, rejected
from .notices import rollout_notice
from .page import check_rows, render_html, render_markdown, sentence, worker_rows
from .watching import Watch, page_key

__all__ = [
    "CHECKS",
    "Check",
    "Evidence",
    "Move",
    "Standing",
    "Watch",
    "Worker",
    "check_rows",
    "compare_versions",
    "decide",
    "page_key",
    "rejected",
    "render_html",
    "render_markdown",
    "rollout_notice",
    "sentence",
    "worker_rows",
]
