from .artifacts import page_lines
from .data import add_landed_files, announce_drift, build_dataset, compact_dataset, decide_retraining, measure_drift
from .deployment_runs import RESUMED_TAG, resumed_tags, start_run, started_runs, wait_for_end
from .experiments import begin_search, compare_entry, conclude_search, report_comparison, search_trials
from .failure import publish_failure_artifact
from .gate import (
    check_gate,
    force_promotion,
    judge_challenger,
    judge_stored,
    promote_challenger,
    publish_version,
    return_to,
    stage_refit_model,
    stage_version,
)
from .notifications import notify_champion, notify_decision
from .remote_training import (
    RemoteTraining,
    Trained,
    download_refit,
    download_trained,
    settle_cost,
    train_by_deployment,
    upload_trained,
)
from .replay import begin_replay, deliver_slice, keep_training, record_slice, report_replay, slice_progress
from .training import check_refit_model, choose_parent, evaluate_models, record_runs, refit_model, train_model

__all__ = [
    "RESUMED_TAG",
    "RemoteTraining",
    "Trained",
    "add_landed_files",
    "announce_drift",
    "begin_replay",
    "begin_search",
    "build_dataset",
    "check_gate",
    "check_refit_model",
    "choose_parent",
    "compact_dataset",
    "compare_entry",
    "conclude_search",
    "decide_retraining",
    "deliver_slice",
    "download_refit",
    "download_trained",
    "evaluate_models",
    "force_promotion",
    "judge_challenger",
    "judge_stored",
    "keep_training",
    "measure_drift",
    "notify_champion",
    "notify_decision",
    "page_lines",
    "promote_challenger",
    "publish_failure_artifact",
    "publish_version",
    "record_runs",
    "record_slice",
    "refit_model",
    "report_comparison",
    "report_replay",
    "resumed_tags",
    "return_to",
    "search_trials",
    "settle_cost",
    "slice_progress",
    "stage_refit_model",
    "stage_version",
    "start_run",
    "started_runs",
    "train_by_deployment",
    "train_model",
    "upload_trained",
    "wait_for_end",
]
