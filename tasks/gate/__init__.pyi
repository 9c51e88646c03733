from .decision import Approval, Decision
from .judging import gate_settings, judge_sealed, judge_staged, record_decision
from .notifications import Notice, champion_notice, decision_notice, fitting
from .page import began_note, comparison_png, next_in_markdown, outcome_words, refit_note, render_markdown, summary
from .publication import Published, promote_version, publish, stage_challenger, stage_refit, with_refit
from .readiness import refuse_unjudgeable
from .retention import ModelPrunePlan, plan_model_prune, prune_models, served_versions
from .rollback import roll_back
from .tables import rule_tables, rules_markdown

__all__ = [
    "Approval",
    "Decision",
    "ModelPrunePlan",
    "Notice",
    "Published",
    "began_note",
    "champion_notice",
    "comparison_png",
    "decision_notice",
    "fitting",
    "gate_settings",
    "judge_sealed",
    "judge_staged",
    "next_in_markdown",
    "outcome_words",
    "plan_model_prune",
    "promote_version",
    "prune_models",
    "publish",
    "record_decision",
    "refit_note",
    "refuse_unjudgeable",
    "render_markdown",
    "roll_back",
    "rule_tables",
    "rules_markdown",
    "served_versions",
    "stage_challenger",
    "stage_refit",
    "summary",
    "with_refit",
]
