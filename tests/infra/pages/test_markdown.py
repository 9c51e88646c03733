from __future__ import annotations

from infra.pages import escaped, markdown_table


def test_a_table_has_a_head_and_its_rows() -> None:
    assert markdown_table(["a", "b"], iter([["1", "2"]])) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_text_from_outside_is_neither_markdown_nor_html() -> None:
    assert escaped("<b>&</b> a|b\n*c* `d` [e](f) $g$") == "&lt;b&gt;&amp;&lt;/b&gt; a\\|b \\*c\\* \\`d\\` \\[e](f) \\$g\\$"
