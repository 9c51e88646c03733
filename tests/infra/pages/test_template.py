from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from infra.pages import BLUE, SERIES, STYLE_VARIABLES, interval_colour, render_template, series_colours, tint

ROOT = Path(__file__).parents[3]
TEMPLATES = [path.relative_to(ROOT).as_posix() for folder in ("serving", "tasks") for path in (ROOT / folder).rglob("*.html")]


def test_every_page_has_the_same_base_and_no_colour_of_its_own() -> None:
    assert len(TEMPLATES) >= 5
    for template in TEMPLATES:
        text = (ROOT / template).read_text(encoding="utf-8")
        if not template.endswith("recommendations.html"):  # it is a part of Evidently's page
            assert text.startswith('{% extends "infra/pages/templates/base.html" %}'), template
            assert "#" not in "".join(re.findall(r"{% block style %}.*?{% endblock %}", text, re.DOTALL)), template


def test_every_colour_that_a_page_names_is_in_the_palette() -> None:
    known = set(re.findall(r"--[a-z]+", STYLE_VARIABLES))
    for template in ["infra/pages/templates/base.html", *TEMPLATES]:
        named = re.findall(r"var\((--[a-z]+)\)", (ROOT / template).read_text(encoding="utf-8"))
        assert set(named) <= known, template


def test_a_missing_value_and_a_missing_page_are_errors() -> None:
    with pytest.raises(UndefinedError):
        render_template("tasks/gate/templates/decision.html")
    with pytest.raises(TemplateNotFound):
        render_template("tasks/gate/templates/nothing.html")


def test_series_have_different_colours_and_grey_ones_use_none_of_them() -> None:
    chosen = series_colours(["a", "still", "b"], grey=["still"])
    assert (chosen["a"], chosen["b"]) == SERIES[:2] and chosen["still"] not in SERIES
    assert len({interval_colour(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))}) == 3
    assert tint(BLUE, 0.5) == "rgba(31, 111, 139, 0.50)"


def test_the_palette_needs_neither_jinja_nor_matplotlib() -> None:
    program = "import sys; from infra.pages import BLUE, markdown_table, new_figure, render_template; "
    program += "print({'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "set()"
