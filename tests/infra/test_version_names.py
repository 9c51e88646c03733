from __future__ import annotations

import pytest

from flows.cli.options import say, table
from infra.version_names import short_version, shortened, version_html

MODEL = "20261129T121055Z-0123456789abcdef0123456789abcdef"
SAME_SECOND = "20261129T121055Z-0123ffff89abcdef0123456789abcdef"
DATASET = "ml-100k/7ff3a1b2c3d4-00112233aabb"


def test_the_short_form_of_a_model_version_is_its_time() -> None:
    assert short_version(MODEL) == "20261129T121055Z"
    assert short_version(MODEL, [MODEL, "20261130T000000Z-" + "0" * 32]) == "20261129T121055Z"


def test_the_short_form_of_a_dataset_version_is_its_content_with_the_name_of_the_dataset() -> None:
    assert short_version(DATASET) == "ml-100k/7ff3a1b2c3d4"
    assert short_version(DATASET.partition("/")[2]) == "7ff3a1b2c3d4"
    assert short_version("ml-100k/7ff3a1b2c3d4") == "ml-100k/7ff3a1b2c3d4"


def test_the_short_form_tells_two_versions_of_one_second_apart() -> None:
    assert short_version(MODEL, [SAME_SECOND, MODEL]) == MODEL[: len("20261129T121055Z-01234")]
    assert short_version(DATASET, [DATASET.replace("00112233", "99112233")]) == "ml-100k/7ff3a1b2c3d4-0011"


@pytest.mark.parametrize("other", ["champion", "none", "", "a/b/c", f"models/movie-ranker/{MODEL}"])
def test_what_is_no_version_stays_as_it_is(other: str) -> None:
    assert short_version(other) == other


def test_a_sentence_names_versions_in_their_short_form_and_addresses_completely() -> None:
    address = f"file:///tmp/models/movie-ranker/{MODEL}/report.html"
    said = shortened(f"{MODEL} trained on {DATASET} was held. See {address}, models/movie-ranker/{MODEL}, or `show {MODEL}`.")
    assert said == (
        "20261129T121055Z trained on ml-100k/7ff3a1b2c3d4 was held. "
        f"See {address}, models/movie-ranker/{MODEL}, or `show 20261129T121055Z`."
    )


def test_a_page_shows_the_short_form_with_the_complete_name_as_title() -> None:
    assert version_html(MODEL) == f'<span title="{MODEL}">20261129T121055Z</span>'
    assert version_html(f"<b> {MODEL}") == f'&lt;b&gt; <span title="{MODEL}">20261129T121055Z</span>'


def test_the_terminal_shows_short_versions_in_tables_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"version {MODEL} of {DATASET}")
    table(["version", "dataset"], [[MODEL, DATASET], [SAME_SECOND, DATASET]], whole="version")
    shown = capsys.readouterr().out
    assert "version 20261129T121055Z of ml-100k/7ff3a1b2c3d4\n" in shown
    assert "20261129T121055Z-01234" in shown and "20261129T121055Z-0123f" in shown
    assert MODEL not in shown and DATASET not in shown
