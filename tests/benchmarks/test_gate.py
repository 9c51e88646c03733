"""The gate's benchmark judges real retrainings, and takes the right figures from them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pipeline import gate, gate_years
from configs.settings import PromotionSettings
from models.evaluation import per_request

TRAININGS, REQUESTS, ITEMS = 4, 300, 40


def retrainings(path: Path) -> Path:
    """Write a file as `benchmarks.ranking.retrainings` does."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(REQUESTS, ITEMS)) + 0.7 * rng.normal(size=(TRAININGS, REQUESTS, ITEMS))
    target = np.argsort(-scores.mean(axis=0), axis=1)[np.arange(REQUESTS), rng.integers(0, 12, REQUESTS)]
    own = scores[:, np.arange(REQUESTS), target]
    gaps = np.sort(scores - own[:, :, None], axis=2)[:, :, ::-1]
    others = np.stack([[row[row != 0][:10] for row in part] for part in gaps])
    lengths = np.tile(rng.integers(11, 99, REQUESTS), (TRAININGS, 1))
    arrays = {
        "ranks": (scores >= own[:, :, None]).sum(axis=2),
        "gaps": others.astype(np.float32),
        "lengths": lengths,
        "slice light users": lengths < 40,
        **{f"{name} ranks": np.full((TRAININGS, REQUESTS), 30) for name in ("popularity", "ncf")},
    }
    np.savez(path, **arrays)
    return path


def test_the_stored_gaps_give_the_rank_for_any_lift_of_the_target(tmp_path: Path) -> None:
    found = gate._read(retrainings(tmp_path / "seeds.npz"))
    plain = per_request(found.ranks, "ndcg", 10)
    assert np.array_equal(per_request(found.lifted(np.zeros(REQUESTS)), "ndcg", 10), plain)
    everyone = np.ones(REQUESTS, dtype=bool)
    for gain in (0.1, -0.3):
        lifted = per_request(found.lifted(np.full(REQUESTS, gate._lift_of(found, gain, everyone))), "ndcg", 10)
        assert lifted.mean() / plain.mean() == pytest.approx(1 + gain, abs=0.02)


def test_the_noise_of_training_does_not_count_what_users_explain() -> None:
    rng = np.random.default_rng(1)
    users = rng.random(2000)
    luck = rng.normal(0, 0.05, (24, 1))
    noisy = 0.5 * (1 + luck) + users * 0.1 + rng.normal(0, 0.3, (24, 2000))
    assert gate.measured_noise(noisy) == pytest.approx(float(luck.std(ddof=1)) * 0.5 / noisy.mean(), rel=0.3)
    assert gate.measured_noise(users * 0.1 + rng.normal(0.5, 0.3, (24, 2000))) < 0.01


def test_every_pair_every_gain_and_every_year_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds, out = retrainings(tmp_path / "seeds.npz"), tmp_path / "gate.json"
    given = ["--runs", "2", "--years", "2", "--gains", "3", "--losses", ".5", "--holdouts", "0", "--resamples", "1100"]
    monkeypatch.setattr(sys, "argv", ["gate", "--seeds", str(seeds), "--out", str(out), *given])
    gate.main()
    result = json.loads(out.read_text())
    assert [trial["runs"] for trial in result["trials"]] == [TRAININGS * (TRAININGS - 1), 2, 2, 1]
    assert result["trials"][1]["promoted"] == 2, "a threefold gain is found"
    assert len(result["years"]) == 2 and "another seed, every ordered pair" in capsys.readouterr().out


def test_the_gates_scheme_has_few_years_with_a_promotion_by_luck_and_the_former_one_many() -> None:
    before, *_, ours = gate_years.schemes(PromotionSettings())
    years = {
        scheme.name: gate_years.simulated(scheme, 0.0031, 1500, gate_years.WEEKS, 0.05, np.random.default_rng(1))
        for scheme in (before, ours)
    }
    (was, _), (now, change) = years.values()
    assert was.any(axis=0).mean() > 0.7 and now.any(axis=0).mean() <= 0.05 >= now.mean()
    assert np.quantile(change, 0.01) >= -0.01
