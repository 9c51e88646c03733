"""The look of the demo: its style, cards of items and tables. All text that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

import streamlit as st

from infra.pages import STYLE_VARIABLES, escaped
from infra.version_names import version_html

if TYPE_CHECKING:  # the first page shows its heading before what these need is imported
    from serving.demo.explained import Explained, LoadedVersion, Reason

__all__ = ["HEAD", "cards", "legend", "link_reports", "link_to_reports", "plain_table", "stylesheet", "when"]

HEAD = "recsys"
NARROW = 3  # columns of a table that fits on a phone
VERDICTS = {
    "passed": "good",
    "no loss shown": "short",
    "loss shown": "bad",
    "drifted": "bad",
    "stable": "good",
    "held": "bad",
    "promoted": "good",
    "✗ failed": "bad",
    "✓ better": "good",
    "✗ worse": "bad",
    "✗ not to be believed": "bad",
}
"""The look of a cell that ends with these words; the first that fits counts."""
STYLE = (
    f"<style>\n{STYLE_VARIABLES}\n"
    + """\
h1 { font-size: 1.9rem !important; padding: 0 0 .6rem !important; }
h2, h3 { font-size: 1.15rem !important; padding: .5rem 0 .35rem !important; }
[data-testid="stMetricValue"] { font-size: 1.35rem; }
@media (min-width: 48rem) { section[data-testid="stSidebar"][aria-expanded="true"] { min-width: 21rem; } }
[data-testid="stMain"]:focus-visible, [data-testid="stTextInputField"]:focus-visible { outline: 2px solid var(--blue) !important; outline-offset: -2px; }
.block-container { padding-top: 3.75rem; max-width: 84rem; }
@media (max-width: 48rem) { .block-container { padding-left: 1rem; padding-right: 1rem; } }
[data-testid="stCaptionContainer"] { color: var(--soft) !important; opacity: 1; }
.item { display: grid; grid-template-columns: 2.2rem 1fr; gap: .2rem .6rem; padding: .55rem .8rem; border: 1px solid var(--line);
        border-radius: .5rem; margin-bottom: .45rem; background: var(--page); overflow-wrap: anywhere; }
.item.marked { border-color: var(--green); border-width: 2px; }
.item.slim { padding: .35rem .7rem; margin-bottom: 0; }
.item .rank { font-size: 1.25rem; font-weight: 650; color: var(--blue); line-height: 1.5rem; text-align: right; }
.item .title { font-weight: 600; } .item .year { color: var(--soft); font-weight: 400; }
.item .score { float: right; color: var(--soft); font-size: .8rem; font-variant-numeric: tabular-nums; margin-left: .5rem; }
.item .bar { height: .26rem; border-radius: .2rem; background: var(--line); margin: .3rem 0 .25rem; }
.item .bar div { height: 100%; border-radius: .2rem; background: var(--blue); }
.item .why { color: var(--soft); font-size: .83rem; line-height: 1.35rem; } .item .why b { font-weight: 600; color: var(--ink); }
.scroll { overflow-x: auto; }
table.plain { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
table.plain th { text-align: left; color: var(--soft); font-weight: 600; font-size: .8rem; }
table.plain th, table.plain td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); vertical-align: top; border-left: 0; border-right: 0; }
table.plain td { overflow-wrap: anywhere; }
table.plain td.short { white-space: nowrap; } table.plain td.number { text-align: right; white-space: nowrap; } table.plain td.good { color: var(--green); white-space: nowrap; }
table.plain td.bad { color: var(--red); font-weight: 600; white-space: nowrap; }
@media (max-width: 48rem) {
  [class*="st-key-pick-"] [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; gap: .6rem; }
  [class*="st-key-pick-"] [data-testid="stColumn"] { min-width: 0 !important; flex: 1 1 0 !important; }
  [class*="st-key-pick-"] [data-testid="stColumn"]:first-child { flex: 0 0 5.2rem !important; }
  table.wide thead { display: none; } table.wide, table.wide tbody { display: block; }
  table.wide tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  table.wide td { display: grid; grid-template-columns: 7.5rem 1fr; gap: .6rem; border: 0; padding: .12rem 0; text-align: left !important; white-space: normal !important; }
  table.wide td:empty { display: none; } table.wide td::before { content: attr(data-name); color: var(--soft); }
}
.tag { display: inline-block; font-size: .72rem; padding: 0 .45rem; border-radius: .7rem; background: var(--ground); color: var(--ink); margin-right: .2rem; }
.rule { background: var(--sand); color: var(--ink); } .next { background: var(--green); color: var(--page); font-weight: 600; }
.legend { color: var(--soft); font-size: .85rem; line-height: 1.45rem; margin-bottom: .4rem; } .legend b { color: var(--ink); font-weight: 600; }
.truth { border-left: 4px solid var(--green); padding: .3rem 0 .3rem .9rem; line-height: 1.65rem; overflow-wrap: anywhere; }
.truth .title { font-weight: 600; font-size: 1.1rem; } .truth .rank { font-weight: 650; font-size: 1.1rem; } .truth .soft { color: var(--soft); }
.chapter { border: 1px solid var(--line); border-left-width: 5px; border-radius: .5rem; padding: .8rem 1.1rem; margin-bottom: .7rem; overflow-wrap: anywhere; max-width: 60rem; }
.chapter.good { border-left-color: var(--green); } .chapter.bad { border-left-color: var(--red); } .chapter.open { border-left-color: var(--grey); }
.chapter h2 { padding: 0 0 .2rem !important; margin: 0; color: var(--soft); } .chapter p { margin: .15rem 0; line-height: 1.5; }
.chapter .answer { font-size: 1.1rem; font-weight: 600; } .chapter .sign { margin-right: .5rem; } .chapter.good .sign { color: var(--green); } .chapter.bad .sign { color: var(--red); }
.chapter code { font-size: .88em; background: var(--ground); padding: .05rem .3rem; border-radius: .2rem; color: var(--ink); }
.reports a { color: var(--blue); } nav.reports { padding: 0 .5rem; }
.up { color: var(--green); } .down { color: var(--red); } .new { color: var(--blue); }
.move { font-size: .8rem; font-weight: 600; margin-left: .4rem; }
</style>
"""
)


def stylesheet() -> None:
    """Add the page's style. Call it once per run."""
    st.html(STYLE)


def link_reports() -> None:
    """Add the list of all reports to the menu. They are served beside the demo, at `pages/`."""
    with st.sidebar:
        st.html('<nav class="reports" aria-label="Reports"><a href="pages/">All reports</a></nav>')


def link_to_reports(links: Mapping[str, str | None]) -> None:
    """Add links to stored reports, by their text. A report without a key does not exist."""
    found = [f'<a href="pages/{escape(key)}">{escape(text)}</a>' for text, key in links.items() if key is not None]
    if found:
        st.html(f'<p class="reports">{" · ".join(found)}</p>')


def when(seconds: int) -> str:
    """Format UTC seconds as a date and time."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def legend(loaded: LoadedVersion) -> None:
    """Say what the numbers of a list mean: their unit and their sign."""
    nouns = loaded.nouns
    alike = (
        f"how alike the model finds the two {nouns.items}, from -1 (opposite) to 1 (the same)"
        if loaded.embeddings is not None
        else f"the share of their {nouns.genres} that the two {nouns.items} have in common, from 0 to 1"
    )
    lines = [
        (
            "Score and bar",
            f"how strongly the model prefers the {nouns.item}. A score has no unit: compare it within one list only.",
        ),
        (
            "Lifted by",
            f"a {nouns.item} of the history, and by how much the score would be lower without it, such as +0.50.",
        ),
        ("Close to", f"a {nouns.item} of the history, and {alike}."),
        ("Rank by popularity", f"1 is the {nouns.item} with the most {nouns.events} in the training data."),
    ]
    st.html(f'<div class="legend">{"<br>".join(f"<b>{escape(name)}:</b> {escape(text)}" for name, text in lines)}</div>')


def cards(
    items: Sequence[Explained],
    other: Sequence[int] | None = None,
    *,
    noun: str,
    detail: bool = True,
    marked: int | None = None,
) -> None:
    """Draw a list of items with the reasons for each.

    Args:
        items: The list, best first.
        other: Indices of another list. If it is given, each item shows how its rank differs from that list.
        noun: What the team calls one item.
        detail: Whether to show the reasons.
        marked: Number of the item that came next in truth.
    """
    if not items:
        st.info(f"No {escaped(noun)} matches the filters.")
        return
    top, low = max(item.score for item in items), min(item.score for item in items)
    span = (top - low) or 1.0
    html = []
    for place, item in enumerate(items, 1):
        width = 12 + 88 * (item.score - low) / span
        year = f' <span class="year">{item.year}</span>' if item.year else ""
        tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in item.tags)
        fired = "".join(f'<span class="tag rule">{escape(rule)}</span>' for rule in item.fired)
        why = _why(item) if detail else ""
        came = item.item_id == marked
        fired += '<span class="tag next">came next in truth</span>' if came else ""
        html.append(
            f'<div class="item{" marked" if came else ""}"><div class="rank">{place}</div><div>'
            f'<span class="score">score {item.score:.2f}</span><span class="title">{escape(item.title)}</span>{year}'
            f"{_moved(item.index, place, other)}<div>{tags}{fired}</div>"
            f'<div class="bar"><div style="width:{width:.0f}%"></div></div>{why}</div></div>'
        )
    st.html("".join(html))


def plain_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw rows as a table, with versions in their short form. Long words wrap, so nothing is cut off.

    On a phone, a table of many columns has a block for each row, with the names of the columns on the left.
    """
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(name, row.get(name)) for name in columns)}</tr>" for row in rows)
    wide = " wide" if len(columns) > NARROW else ""
    st.html(f'<div class="scroll"><table class="plain{wide}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _cell(name: str, value: object) -> str:
    head = f'<td data-name="{escape(name)}" class='
    if isinstance(value, float):
        return f'{head}"number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'{head}"number">{value:,}</td>'
    text = "" if value is None else str(value)
    kind = next((kind for word, kind in VERDICTS.items() if text.endswith(word)), "short" if len(text) < 20 else "")
    return f'{head}"{kind}">{version_html(text)}</td>'


def _why(item: Explained) -> str:
    lines = []
    if item.because:
        lines.append(f"<b>lifted by</b> {_reasons(item.because, '+{:.2f}')}")
    if item.nearest:
        lines.append(f"<b>close to</b> {_reasons(item.nearest, '{:.2f}')}")
    lines.append(f"<b>rank {item.popularity_rank:,}</b> by popularity")
    return f'<div class="why">{"<br>".join(lines)}</div>'


def _reasons(reasons: Sequence[Reason], form: str) -> str:
    return ", ".join(f"{escape(reason.title)} <span class='year'>{form.format(reason.worth)}</span>" for reason in reasons)


def _moved(index: int, place: int, other: Sequence[int] | None) -> str:
    if other is None:
        return ""
    if index not in other:
        return '<span class="move new">only here</span>'
    step = list(other).index(index) + 1 - place
    if step == 0:
        return '<span class="move" style="color:var(--soft)">same rank</span>'
    return f'<span class="move {"up" if step > 0 else "down"}">{"▲" if step > 0 else "▼"} {abs(step)}</span>'
