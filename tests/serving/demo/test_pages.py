"""Every page, run by Streamlit's own test runner: what it shows, what a click changes, and what it says if it has nothing to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from configs.errors import NotFoundError
from configs.serving import DemoSettings
from infra.storage.local import LocalStore
from serving.demo.context import SETTINGS, context_of
from serving.demo.launch import environment
from serving.demo.store_view import StoreView
from tests.tasks.world import World

TIMEOUT = 300
ADD = "\\+ "
"""The beginning of the label of a button that adds a film. A label is Markdown, in which `+ ` alone would begin a list."""


def page(name: str, settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A page of the demo, run once."""
    monkeypatch.setenv(SETTINGS, environment(settings)[SETTINGS])

    def script(name: str) -> None:
        import importlib

        from serving.demo.app import draw
        from serving.demo.context import context_of

        draw(importlib.import_module(f"serving.demo.views.{name}").show, context_of())

    found = AppTest.from_function(script, default_timeout=TIMEOUT, args=(name,)).run()
    assert not found.exception, found.exception
    return found


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))  # type: ignore[attr-defined]


def charts(app: AppTest) -> list[Any]:
    return list(app.get("vega_lite_chart"))


def test_a_real_users_list_has_reasons_rules_and_charts(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    shown = html(app)
    assert shown.count('class="item"') == 10
    assert "close to" in shown and "by popularity" in shown and "lifted by" in shown
    assert ">comedies first<" in shown and any("Rules in the file: comedies first" in said.value for said in app.caption)
    assert len(charts(app)) == 2
    assert "★" in app.selectbox(key="version").value
    before = shown
    app.selectbox(key="user").select_index(3).run()
    assert html(app) != before and not app.exception


def test_the_time_of_the_request_and_the_filters_change_the_list(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    app.slider(key="k").set_value(5).run()
    assert html(app).count('class="item"') == 5
    at_once = html(app)
    app.select_slider(key="gap").set_value("5 years").run()
    assert html(app) != at_once
    app.multiselect(key="genres").select("Comedy").run()
    films = [part for part in html(app).split('class="item"')[1:]]
    assert films and all("Comedy" in part for part in films)


def test_a_history_is_built_by_searching_and_taken_apart_again(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    app.segmented_control(key="how").set_value("Build a history").run()
    assert any("start with well-known films" in caption.value for caption in app.caption)
    assert "lifted by" not in html(app)
    cold = html(app)
    picks = [button for button in app.button if button.label.startswith(ADD)]
    assert len(picks) == 8
    app.text_input(key="search").set_value("film the 10").run()
    found = [button for button in app.button if button.label.startswith(ADD)]
    assert found and all("The Film" in button.label and "10" in button.label for button in found)
    title = found[0].label.removeprefix(ADD)
    found[0].click().run()
    found = [button for button in app.button if button.label.startswith(ADD)]
    found[0].click().run()
    assert html(app) != cold and "close to" in html(app)
    drop = next(button for button in app.button if button.label == f"✕ {title}")
    drop.click().run()
    assert not [button for button in app.button if button.label == f"✕ {title}"]
    app.text_input(key="search").set_value("no such film").run()
    assert any("No other film" in caption.value for caption in app.caption)
    assert not app.exception


def test_two_versions_are_shown_side_by_side(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("compare", settings, monkeypatch)
    left, right = app.selectbox(key="left").value, app.selectbox(key="right").value
    assert left != right and "★" in left
    shown = html(app)
    assert shown.count('class="item"') == 20 and ("▲" in shown or "only here" in shown)
    assert len(charts(app)) == 2
    app.selectbox(key="right").set_value(left).run()
    assert any("10 of the first 10 films are in both" in caption.value for caption in app.caption)
    assert "▲" not in html(app) and "only here" not in html(app)


def test_the_pipeline_shows_versions_decisions_and_the_log(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = lively
    app = page("pipeline", settings, monkeypatch)
    shown = html(app)
    assert world.first.version in shown and "the first" in shown and "better" in shown
    assert [metric.value for metric in app.metric][1:] == ["2", "2", "0"]
    assert len(charts(app)) == 2
    app.segmented_control[0].set_value("HR@10").run()
    assert not app.exception and len(charts(app)) == 2
    for option in app.selectbox(key="decided").options:
        app.selectbox(key="decided").set_value(option).run()
        assert not app.exception


def test_drift_is_shown_over_time_and_by_measurement(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("drift", settings, monkeypatch)
    assert app.metric[0].value == "drifted" and "rating has moved." in app.markdown[0].value
    assert len(charts(app)) == 1
    app.toggle[0].set_value(True).run()
    assert app.get("iframe") and not app.exception
    app.selectbox[0].select_index(1).run()
    assert "Nothing has moved" in app.markdown[0].value


def test_experiments_are_listed_assigned_and_reported(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("ab", settings, monkeypatch)
    shown = html(app)
    assert "longer" in shown and "control 50%" in shown and "sample ratio" in shown
    assert "challenger is better than control" in app.success[0].value
    assert len(charts(app)) == 1
    first = app.markdown[0].value
    said = {first} | {
        app.text_input[0].set_value(str(user)).run().markdown[0].value.split(" is served")[1] for user in range(2, 8)
    }
    assert any("**control**" in each for each in said) and any("**challenger**" in each for each in said)


@pytest.mark.parametrize("name", ["recommend", "compare", "pipeline", "drift"])
def test_a_page_says_that_the_store_is_empty(name: str, empty: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(name, empty, monkeypatch)
    assert app.info and "recsys" in app.info[0].value and not app.error


def test_a_page_says_what_is_not_configured_or_missing(
    settings: DemoSettings, empty: DemoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    nothing = settings.model_copy(update={"experiments": None})
    assert "No experiments file" in page("ab", nothing, monkeypatch).info[0].value
    no_outcomes = settings.model_copy(update={"outcomes": None})
    assert any("No outcomes" in info.value for info in page("ab", no_outcomes, monkeypatch).info)
    no_log = settings.model_copy(update={"exposures": tmp_path})
    assert "holds no exposures" in page("ab", no_log, monkeypatch).warning[0].value
    (tmp_path / "none.yaml").write_text("{}")
    assert (
        "has no experiments"
        in page("ab", settings.model_copy(update={"experiments": tmp_path / "none.yaml"}), monkeypatch).info[0].value
    )
    lost = settings.model_copy(update={"rules": tmp_path / "gone.yaml"})
    assert "does not exist" in page("recommend", lost, monkeypatch).error[0].value


def test_an_edited_version_is_refused_and_not_shown(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = lively
    path = world.store.folder / world.first.prefix / "evaluation.json"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.replace(b"0", b"1", 1))
        assert "differs from its manifest" in page("pipeline", settings, monkeypatch).error[0].value
    finally:
        path.write_bytes(kept)


def test_the_worth_of_a_reason_is_what_the_score_loses_without_its_event(lively: tuple[World, DemoSettings]) -> None:
    settings = lively[1]
    context = context_of(settings)
    loaded = context.load(next(ref for ref in context.versions() if ref.version == context.champion()))
    histories = context.histories(loaded.ref.dataset)
    movies, times = histories.of(int(histories.user_ids[0]))
    now = int(times[-1])
    (film, *_) = loaded.recommend(movies, times, now, context.rules(), k=1)
    whole = loaded.scores(movies, times, [now])[0][film.index]
    by_title = {loaded.label(loaded.catalogue.index_of(int(m)) or 0): p for p, m in enumerate(movies)}
    for reason in film.because:
        place = by_title[reason.title]
        without = loaded.scores(np.delete(movies, place), np.delete(times, place), [now])[0][film.index]
        assert reason.worth == pytest.approx(whole - without, abs=1e-4) and reason.worth > 0
    assert histories.of(-5)[0].size == 0


def test_the_message_says_that_a_dataset_is_stored_in_parts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_new("datasets/films/b-a/manifest.json", json.dumps({"format": 2, "layout": {"parts": []}}).encode())
    with pytest.raises(NotFoundError, match=r"films/b-a is stored in parts.* build a history by hand"):
        StoreView(store, "movie-ranker").histories("films/b-a", tmp_path)
