from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from infra.pages import code_span, escaped, markdown_table, unlinked
from tests.planted import PLANTED, planted_elements


def test_a_table_has_a_head_and_its_rows() -> None:
    assert markdown_table(["a", "b"], iter([["1", "2"]])) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_text_from_outside_is_neither_markdown_nor_html() -> None:
    assert escaped("<b>&</b> a|b\n*c* `d` [e](f) $g$") == "&lt;b&gt;&amp;&lt;/b&gt; a\\|b \\*c\\* \\`d\\` \\[e\\](f) \\$g\\$"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\\|b", "a\\\\\\|b"),  # a backslash in the text must not unescape the bar after it
        ("# a", "\\# a"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("---", "\\---"),
        ("=", "\\="),
        ("_a_ and b_c", "\\_a\\_ and b_c"),
        ("~~a~~ ![b](c)", "\\~\\~a\\~\\~ \\!\\[b\\](c)"),
        ("-0.5 to +0.5", "-0.5 to +0.5"),
        ("http://planted.example www.planted.example a@planted.example", "http~://planted.example www~.planted.example a@~planted.example"),
        ("ndcg@10, at @b, c@d.", "ndcg@10, at @b, c@d."),
        ("\x1b[31m \u202e", "\\\\x1b\\[31m \\\\u202e"),
    ],
)  # fmt: skip
def test_each_markdown_character_is_shown_as_it_was_written(text: str, shown: str) -> None:
    assert escaped(text).replace("\N{WORD JOINER}", "~") == shown


@pytest.mark.parametrize("text", PLANTED)
def test_planted_text_reads_the_same_after_markdown_has_rendered_it(text: str) -> None:
    drawn = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(f"| a |\n|---|\n| {escaped(text)} |\n")
    cell = re.fullmatch(r".*<td>(.*)</td>.*", drawn, re.DOTALL)
    assert cell is not None and "<" not in cell.group(1)
    assert html.unescape(cell.group(1)).replace("\N{WORD JOINER}", "") == " ".join(text.split())


@pytest.mark.parametrize("text", PLANTED)
def test_text_that_some_readers_take_for_markdown_becomes_no_link(text: str) -> None:
    drawn = MarkdownIt("gfm-like", {"linkify": False}).render(unlinked(text))
    assert planted_elements(drawn) == [] and "<a" not in drawn and "<img" not in drawn
    assert unlinked(text).replace("\N{WORD JOINER}", "") == text and "http://" not in unlinked(text)


def test_an_address_of_the_store_can_be_copied() -> None:
    assert unlinked("s3://bucket/key [1] a<3") == "s3://bucket/key [1] a<3"


@pytest.mark.parametrize("text", [*PLANTED, "`", "a``b`", "`a\nb", "recsys data open s3://bucket/key", "a\x1bb"])
def test_code_is_shown_as_written_and_nothing_in_it_ends_it(text: str) -> None:
    drawn = MarkdownIt("commonmark").render(f"Run {code_span(text)}.")
    shown = re.fullmatch(r"<p>Run <code>(.*)</code>\.</p>\n", drawn)
    assert shown is not None and planted_elements(drawn) == []
    assert html.unescape(shown.group(1)) == text.replace("\n", " ").replace("\x1b", r"\x1b")
