from __future__ import annotations

import json
import re

import pytest
from evidently.legacy.model.dashboard import DashboardInfo
from evidently.legacy.model.widget import BaseWidgetInfo
from evidently.legacy.utils.dashboard import TemplateParams, file_html_template

from infra.pages import evidently_page
from tests.planted import PLANTED, Elements, planted_elements

TEXT = " ".join(PLANTED) + " \u2028\u2029 <body> var metric_1 = {} ;"


@pytest.fixture(scope="module")
def page() -> str:
    """Return a page made with Evidently's own template, without its library."""
    widgets = [BaseWidgetInfo(type="text", size=2, title=TEXT)]
    made = DashboardInfo(name="Report", widgets=widgets)
    return file_html_template(TemplateParams("metric_0", made, {"graph": {"x": [TEXT]}}, embed_font=False, embed_lib=False))


def made_of(page: str) -> str:
    return evidently_page(page, "Stable: <b>films", "<p>Our words</p>")


def test_data_cannot_break_out_of_its_script(page: str) -> None:
    assert planted_elements(page), "Evidently itself now escapes the text"
    made = made_of(page)
    assert planted_elements(made) == []
    assert [tag for tag, _ in Elements(made).found].count("script") == 4
    head = made[: made.index("</head>")]
    data = head[head.index("var metric_0") : head.index("</script>", head.index("var metric_0"))]
    assert not set("<>&\u2028\u2029") & set(data) and made.count("<body>") == 1


def test_the_data_stays_the_same(page: str) -> None:
    made = made_of(page)
    start = re.search(r"var metric_0 = ", made)
    assert start is not None
    shown, end = json.JSONDecoder().raw_decode(made, start.end())
    assert shown["widgets"][0]["title"] == TEXT
    second = re.compile(r"\s*;\s*var additional_graphs_metric_0 = ").match(made, end)
    assert second is not None and json.JSONDecoder().raw_decode(made, second.end())[0]["graph"]["x"] == [TEXT]


def test_the_page_must_not_request_anything(page: str) -> None:
    policy = next(found["content"] for tag, found in Elements(made_of(page)).found if found.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy


def test_the_page_has_a_title_and_opens_with_our_words(page: str) -> None:
    made = made_of(page)
    assert "<title>Stable: &lt;b&gt;films</title>" in made[: made.index("</head>")]
    assert made.count("Our words") == 1 and made.index("<body>") < made.index("Our words") < made.index('id="root_')


@pytest.mark.parametrize("page", ["", "<html><head></head></html>", "<head><script>\n var a = {};</script></head>"])
def test_a_page_of_another_form_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="unsupported version of Evidently"):
        made_of(page)
