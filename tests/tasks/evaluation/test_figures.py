from __future__ import annotations

from models.recommender import EpochReport
from tasks.evaluation import beyond_accuracy_rows, metrics_rows, training_curve_png, value_rows
from tasks.evaluation.business_value import Figure, Value, ValueEstimate


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


def test_each_model_and_slice_with_requests_is_a_row() -> None:
    rows = metrics_rows(
        {"ncf": {"all": {"requests": 943, "hr@10": 0.123456}, "new users": {}}, "ss4rec": {"all": {"hr@10": 1.0}}},
        {"ncf": {"ndcg@10": (0.1, 0.21)}},
    )
    assert rows == [
        {"slice": "all", "model": "NCF", "HR@10": "0.1235"},
        {"slice": "all", "model": "SS4Rec", "HR@10": "1.0000"},
    ]


def test_whole_models_come_before_their_slices_and_the_interval_stands_with_its_figure() -> None:
    values = {"requests": 9.0, "hr@5": 0.1, "hr@10": 0.2, "ndcg@10": 0.3, "mrr@10": 0.1}
    metrics = {model: {"all": values, "new users": values} for model in ("ncf", "ss4rec")}
    rows = metrics_rows(metrics, {"ncf": {"ndcg@10": (0.2, 0.4)}})
    assert [(row["slice"], row["model"]) for row in rows] == [
        ("all", "NCF"),
        ("all", "SS4Rec"),
        ("new users", "NCF"),
        ("new users", "SS4Rec"),
    ]
    assert list(rows[0]) == ["slice", "model", "NDCG@10", "HR@10", "MRR@10"], (
        "what is wider does not fit a page of the Prefect UI"
    )
    assert rows[0]["NDCG@10"] == "0.3000 (0.2000 to 0.4000)" and rows[2]["NDCG@10"] == "0.3000"


def test_metrics_of_lists_have_a_row_each_and_an_interval_if_they_are_means() -> None:
    rows = beyond_accuracy_rows(
        {"ncf": {"gini@10": 0.98765, "popularity@10": 1234.56}, "ss4rec": {"gini@10": 0.9}},
        {"ncf": {"popularity@10": (1200.0, 1300.04)}},
    )
    assert rows == [
        {"metric": "gini@10", "NCF": "0.9877", "SS4Rec": "0.9000"},
        {"metric": "popularity@10", "NCF": "1,234.6 (1,200.0 to 1,300.0)"},
    ]


def test_a_difference_is_shown_with_a_sign_and_a_value_without_one() -> None:
    figure = Figure(20.0, 10.0, 30.0)
    estimate = ValueEstimate(figure, figure.times(0.5), figure.times(0.05), figure.times(50))
    loss = ValueEstimate(*[Figure(-1.0, -2.0, 0.5)] * 4)
    rows = value_rows(Value("EUR", {"ncf": estimate}, {"ncf": loss}, []), "ss4rec")
    assert rows[0] == {
        "model": "ncf",
        "clicks / 1,000 requests": "20.0 (10.0 to 30.0)",
        "watches / 1,000": "10.0 (5.0 to 15.0)",
        "EUR / 1,000": "1.00 (0.50 to 1.50)",
        "EUR / month": "1,000 (500 to 1,500)",
    }
    assert rows[1]["model"] == "ss4rec - ncf" and rows[1]["EUR / 1,000"] == "-1.00 (-2.00 to +0.50)"
