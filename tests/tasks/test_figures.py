from __future__ import annotations

from models.recommender import EpochReport
from tasks.figures import metrics_rows, training_curve_png


def test_curves_are_pngs() -> None:
    epochs = [EpochReport(n, 5, 3.0 / n, {"ndcg@10": 0.1 + n / 100}, 1.0, n) for n in range(1, 6)]
    one = [EpochReport(1, 1, 0.0, {"ndcg@10": 0.1}, 1.0, 1)]
    unmeasured = [EpochReport(1, 2, 3.0, {}, 1.0, 0), EpochReport(2, 2, 2.0, {}, 1.0, 0)]
    for png in (
        training_curve_png({"ss4rec": epochs, "ncf": epochs[:3], "popularity": one}),
        training_curve_png({"popularity": one}),
        training_curve_png({"ss4rec": epochs[:1], "popularity": one}),
        training_curve_png({"ss4rec": unmeasured}),
    ):
        assert png.startswith(b"\x89PNG") and len(png) > 5000


def test_each_model_and_slice_is_a_row() -> None:
    rows = metrics_rows(
        {"ncf": {"all": {"requests": 943, "hr@10": 0.123456}, "new users": {}}, "ss4rec": {"all": {"hr@10": 1.0}}},
        {"ncf": {"ndcg@10": (0.1, 0.21)}, "ss4rec": {"ndcg@10": (0.3, 0.4)}},
    )
    assert rows == [
        {"model": "ncf", "slice": "all", "requests": 943, "hr@10": 0.1235, "ndcg@10, 95 %": "0.1000 to 0.2100"},
        {"model": "ss4rec", "slice": "all", "hr@10": 1.0, "ndcg@10, 95 %": "0.3000 to 0.4000"},
    ]
