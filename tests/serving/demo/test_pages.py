"""Every page, run by Streamlit's own test runner: what it shows, what a click changes, and what it says if it has nothing to show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from configs.errors import NotFoundError, StoreError
from configs.serving import DemoSettings
from configs.settings import StoreSettings
from infra.pages import is_page
from infra.registry import ModelRegistry
from infra.storage import open_store
from infra.storage.local import LocalStore
from infra.version_names import short_version
from serving.demo.context import SETTINGS, context_of
from serving.demo.histories import read_histories
from serving.demo.launch import environment
from tasks.datasets import store_histories
from tests.doubles.moto_s3 import moto_s3
from tests.tasks.landed import Place, events
from tests.tasks.world import NAME, World

TIMEOUT = 300
ADD = "\\+ "
"""The beginning of the label of a button that adds a film. A label is Markdown, in which `+ ` alone would begin a list."""


def page(name: str, settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A page of the demo, run once."""
    monkeypatch.setenv(SETTINGS, environment(settings)[SETTINGS])

    def script(name: str) -> None:
        from serving.demo.app import draw

        draw(name)

    found = AppTest.from_function(script, default_timeout=TIMEOUT, args=(name,)).run()
    assert not found.exception, found.exception
    return found


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))  # type: ignore[attr-defined]


def charts(app: AppTest) -> list[Any]:
    return list(app.get("vega_lite_chart"))


@pytest.mark.full
def test_a_real_users_list_has_reasons_rules_and_charts(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    shown = html(app)
    assert shown.count('<div class="item') == 10
    assert "close to" in shown and "by popularity" in shown and "lifted by" in shown
    assert ">comedies first<" in shown and any("Rules in the file: comedies first" in said.value for said in app.caption)
    assert len(charts(app)) == 2
    assert "★" in app.selectbox(key="version").value
    user = app.text_input(key="user").value
    next(each for each in app.button if each.label == "Another user").click().run()
    assert app.text_input(key="user").value != user and html(app) != shown and not app.exception


def test_what_came_next_in_truth_is_shown_with_the_rank_that_the_model_gave_it(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = lively
    champion = ModelRegistry(world.store).champion(NAME)
    assert champion is not None
    ranks = pd.read_parquet(world.store.folder / f"models/{NAME}/{champion.version}/ranks.parquet")
    hit = ranks[(ranks["rank_ss4rec"] <= 3)].iloc[0]
    app = page("recommend", settings.model_copy(update={"rules": None}), monkeypatch)
    app.text_input(key="user").set_value(str(hit["user_id"])).run()
    shown = html(app)
    truth, *cards = shown.split('<div class="item')
    assert f">rank {hit['rank_ss4rec']}</span> of " in truth and "It is in the top ten." in truth
    assert f"popularity rank {hit['rank_popularity']}" in truth and "with the rating" in truth
    (place,) = [place for place, card in enumerate(cards, 1) if "came next in truth" in card]
    assert place == hit["rank_ss4rec"]  # the list is the one that the model gave then
    table = shown.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == 10 and table.count('data-name="rating" class="number"') == 10
    app.toggle(key="hide").set_value(False).run()
    assert not app.exception and "What came next in truth" not in html(app) and "came next in truth" not in html(app)


def test_an_unknown_user_is_told_so_and_gets_the_list_of_new_users(
    settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page("recommend", settings, monkeypatch)
    for named, said in (("999999", "has no user 999999"), ("Ann", "Ann cannot be an id"), ("", "Type the id")):
        app.text_input(key="user").set_value(named).run()
        assert said in app.info[0].value and "list below is the one for a new user" in app.info[0].value
        assert "lifted by" not in html(app) and html(app).count('<div class="item') == 10 and not app.exception


def test_the_legend_says_the_unit_and_the_sign_of_each_number(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = html(page("recommend", settings, monkeypatch))
    for said in (
        "A score has no unit",
        "lower without it, such as +0.50",
        "from -1 (opposite) to 1 (the same)",
        "1 is the film with",
    ):
        assert said in shown


def test_the_time_of_the_request_and_the_filters_change_the_list(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    app.slider(key="k").set_value(5).run()
    assert html(app).count('<div class="item') == 5
    at_once = html(app)
    app.select_slider[0].set_value("5 years").run()
    assert html(app) != at_once
    app.multiselect(key="genres").select("Comedy").run()
    films = [part for part in html(app).split('<div class="item')[1:]]
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
    assert shown.count('<div class="item') == 20 and ("▲" in shown or "only here" in shown)
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
    assert short_version(world.first.version) in shown and "the first" in shown and "better" in shown
    assert [metric.value for metric in app.metric][1:] == ["2", "2", "0"]
    assert len(charts(app)) == 2
    assert "`recsys model promote VERSION`" in app.warning[0].value, "a command is code"
    app.segmented_control[0].set_value("HR@10").run()
    assert not app.exception and len(charts(app)) == 2
    for option in app.selectbox(key="decided").options:
        app.selectbox(key="decided").set_value(option).run()
        assert not app.exception


def test_drift_is_shown_over_time_and_by_measurement(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("drift", settings, monkeypatch)
    assert "has changed" in app.error[0].value and "rating has moved." in app.error[0].value
    assert app.metric[0].value == "1 of 2" and "rating has moved." in app.markdown[0].value
    assert len(charts(app)) == 1
    app.toggle[0].set_value(True).run()
    assert app.get("iframe") and not app.exception
    app.selectbox[0].select_index(1).run()
    assert "Nothing has moved" in app.markdown[0].value


@pytest.mark.full
def test_experiments_are_listed_assigned_and_reported(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("experiments", settings, monkeypatch)
    shown = html(app)
    assert "longer" in shown and "control 50%" in shown and "sample ratio" in shown
    assert "challenger is better than control" in app.success[0].value
    assert len(charts(app)) == 1
    first = app.markdown[0].value
    said = {first} | {
        app.text_input[0].set_value(str(user)).run().markdown[0].value.split(" is served")[1] for user in range(2, 8)
    }
    assert any("**control**" in each for each in said) and any("**challenger**" in each for each in said)


def test_the_latest_run_is_told_and_an_earlier_one_can_be_chosen(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = lively
    app = page("latest", settings, monkeypatch)
    shown = html(app)
    assert shown.count('<section class="chapter') == 6 and "Nothing needs to be done" in shown
    rows = pd.read_parquet(world.store.folder / world.newer.prefix / "interactions.parquet")
    assert f"{len(rows):,} ratings by" in shown and "more than in the run before" in shown
    app.selectbox(key="run").select_index(1).run()
    assert "Another version has replaced it since" in html(app) and "newer ratings" in html(app) and not app.exception


@pytest.mark.full
def test_the_pages_link_to_the_reports_of_what_they_show(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = lively
    champion = ModelRegistry(world.store).champion(NAME)
    assert champion is not None
    key = f"models/{NAME}/{champion.version}/report.html"
    assert f'href="pages/{key}"' not in html(page("latest", settings, monkeypatch)), "this version was sealed without a decision"
    world.store.put_new(key, b"<h1>Promoted</h1>")
    try:
        for name in ("latest", "pipeline"):
            assert f'href="pages/{key}"' in html(page(name, settings, monkeypatch)), name
    finally:
        world.store.delete(key)
    (measured,) = re.findall(r'href="pages/([^"]*)"', html(page("drift", settings, monkeypatch)))
    assert is_page(measured) and world.store.exists(measured)


@pytest.mark.full
def test_a_store_on_s3_is_shown(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world, _ = lively
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with moto_s3() as url:
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="films")
        given = {"url": "s3://films/demo", "endpoint_url": url, "region": "us-east-1"}
        remote = settings.model_copy(update={"store": StoreSettings.model_validate(given), "work_dir": tmp_path})
        store = open_store(remote.store)
        for key in world.store.list():
            store.put(key, world.store.get(key))
        assert "What came next in truth" in html(page("recommend", remote, monkeypatch))
        assert html(page("latest", remote, monkeypatch)) == html(page("latest", settings, monkeypatch))


@pytest.mark.full
def test_a_store_that_lets_nobody_write_is_shown(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise StoreError(f"no rights to write {given[1:]}")

    for name in ("put", "put_new", "claim", "delete"):
        monkeypatch.setattr(LocalStore, name, refuse)
    st.cache_resource.clear()
    for name in ("recommend", "latest", "compare", "pipeline", "drift", "experiments"):
        assert not [error.value for error in page(name, settings, monkeypatch).error if "no rights" in error.value]


@pytest.mark.parametrize("name", ["recommend", "latest", "compare", "pipeline", "drift"])
def test_a_page_says_that_the_store_is_empty(name: str, empty: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(name, empty, monkeypatch)
    assert app.info and "recsys" in app.info[0].value and not app.error


@pytest.mark.full
def test_a_page_says_what_is_not_configured_or_missing(
    settings: DemoSettings, empty: DemoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    nothing = settings.model_copy(update={"experiments": None})
    assert "No experiments file" in page("experiments", nothing, monkeypatch).info[0].value
    no_outcomes = page("experiments", settings.model_copy(update={"outcomes": None}), monkeypatch)
    assert any("every user who counts has the same outcome" in info.value for info in no_outcomes.info)
    no_log = settings.model_copy(update={"exposures": tmp_path})
    assert "holds no exposures" in page("experiments", no_log, monkeypatch).warning[0].value
    (tmp_path / "none.yaml").write_text("{}")
    assert (
        "has no experiments"
        in page("experiments", settings.model_copy(update={"experiments": tmp_path / "none.yaml"}), monkeypatch).info[0].value
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
    movies, times, _ = histories.of(int(histories.user_ids[0]))
    now = int(times[-1])
    (film, *_) = loaded.recommend(movies, times, now, context.rules(), k=1)
    whole = loaded.scores(movies, times, [now])[0][film.index]
    by_title = {loaded.label(loaded.catalogue.index_of(int(m)) or 0): p for p, m in enumerate(movies)}
    for reason in film.because:
        place = by_title[reason.title]
        without = loaded.scores(np.delete(movies, place), np.delete(times, place), [now])[0][film.index]
        assert reason.worth == pytest.approx(whole - without, abs=1e-4) and reason.worth > 0
    assert histories.of(-5).times.size == 0


def test_events_of_a_landing_zone_have_their_ratings_of_the_newest_part(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 10), (1, 2, 3, 50), (2, 1, 1, 7)))
    place.land()
    place.put("b.csv", events((1, 1, 2.5, 60), (3, 2, 5, 70)))
    dataset = place.land().dataset
    assert dataset is not None
    store_histories(place.store, dataset.name)
    found = read_histories(place.store, f"{dataset.name}/{dataset.version}", tmp_path / "work")
    one = found.of(1)
    assert one.ratings is not None and one.item_ids.tolist() == [2, 1] and one.ratings.tolist() == [3, 2.5]
    assert found.of(3).ratings.tolist() == [5]  # type: ignore[union-attr]


def test_the_message_says_that_a_dataset_is_stored_in_parts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_new("datasets/films/b-a/manifest.json", json.dumps({"format": 2, "layout": {"parts": []}}).encode())
    with pytest.raises(NotFoundError, match=r"films/b-a is stored in parts.* build a history by hand"):
        read_histories(store, "films/b-a", tmp_path)
