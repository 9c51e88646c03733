"""What a search writes is what the comparison of the peers reads."""

from __future__ import annotations

import time
from pathlib import Path

import optuna

from benchmarks.ranking.search import FIXED, FURTHER, SPACES, STARTS, Worker, study_of
from benchmarks.ranking.variants import SEARCHES, settings_of, studies_of
from configs.kinds import spec_of
from models.search import suggest

ROOT = Path(__file__).parents[3]


def test_a_trial_that_the_end_cut_off_counts_with_its_best_epoch_and_its_settings_can_be_trained(tmp_path: Path) -> None:
    fixed = {"max_length": 50, "max_epochs": 4, "patience": 4, "schedule": "cosine", "warm_up": 0.05}
    for name, variant in (("sasrec", "SASRec"), ("ss4rec", "SS4Rec")):
        worker = Worker(name, 0, tmp_path / name, "ml-100k", None, "loo-exact", fixed | FIXED.get(name, {}), time.time())
        study = worker.study
        for start, reached in zip(STARTS[name][:2], ((0.1, 0.3, 0.2), (0.1, 0.15)), strict=True):
            study.enqueue_trial(start)
            trial = study.ask()
            suggest(trial, SPACES[name], spec_of(worker.kind))
            for epoch, value in enumerate(reached, start=1):
                trial.report(value, epoch)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        found = study_of(worker, 1)
        assert found["best"] == 0 and found["trials"][0]["value"] == 0.3
        settings = settings_of(variant, {name: found})
        assert all(getattr(settings, key) == value for key, value in STARTS[name][0].items())


def test_the_recorded_trials_begin_with_the_given_points_and_lie_within_the_space() -> None:
    studies = studies_of([ROOT / path for path in SEARCHES])
    assert sorted(studies) == sorted(SPACES)
    for name, study in studies.items():
        trials = {trial["number"]: trial["params"] for trial in study["trials"]}
        assert [trials[number] for number in range(2)] == STARTS[name][:2]
        spec = spec_of("ss4rec" if name == FURTHER else name)
        for params in trials.values():
            assert params.keys() == SPACES[name].keys()
            spec.settings.model_validate(study["fixed"] | params)
        reached = {trial["number"]: trial["value"] for trial in study["trials"]}
        assert reached[study["best"]] == max(reached.values())
