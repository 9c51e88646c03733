"""Colours can be told from the sheet that they are on, in the light and in the dark."""

from __future__ import annotations

import re

import pytest

from infra.pages import DARK, INK, SERIES, SOFT, VERDICT_COLOURS, in_dark, light_or_dark, new_figure, svg_bytes, tidy
from infra.pages.palette import GREEN, GREY, PAGE, RED, STYLE_VARIABLES

TEXT, MARK = 4.5, 3.0
"""The least contrast of text and of what is drawn: WCAG 2.2, success criteria 1.4.3 and 1.4.11 (AA)."""


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", [*SERIES, *VERDICT_COLOURS.values(), GREY])
def test_what_is_drawn_can_be_seen_in_the_light_and_in_the_dark(colour: str) -> None:
    assert contrast(colour, PAGE) >= MARK and contrast(in_dark(colour), in_dark(PAGE)) >= MARK


@pytest.mark.parametrize("colour", [INK, SOFT, GREEN, RED, SERIES[0]])
def test_text_can_be_read_in_the_light_and_in_the_dark(colour: str) -> None:
    assert contrast(colour, PAGE) >= TEXT and contrast(in_dark(colour), in_dark(PAGE)) >= TEXT


def test_a_colour_of_a_plugin_becomes_paler_in_the_dark() -> None:
    assert in_dark("#204080") == "#8f9fbf" and light_or_dark("#204080") == "light-dark(#204080, #8f9fbf)"


def test_the_dark_sheet_of_a_figure_is_that_of_the_page() -> None:
    assert f"--sheet: light-dark({PAGE}, {in_dark(PAGE)})" in STYLE_VARIABLES and in_dark(PAGE) == DARK["ground"]


def test_every_colour_of_a_figure_has_a_rule_for_dark_browsers_and_text_too() -> None:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=SERIES[0])
    axes.bar((0, 1), (1, 2), color=SERIES[3], edgecolor="white")
    tidy(axes, "a title")
    drawn = svg_bytes(figure).decode()
    drawing, style = drawn.split("<style>@media (prefers-color-scheme: dark)")
    for part, colour in re.findall(r"\b(fill|stroke): (#[0-9a-f]{6})", drawing):
        assert f'[style*="{part}: {colour}"] {{ {part}: {in_dark(colour)} !important; }}' in style
    assert f"svg {{ fill: {in_dark('#000000')}; }}" in style and SERIES[0] in drawing and style.endswith("</style>\n</svg>\n")
