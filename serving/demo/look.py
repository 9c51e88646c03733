"""The look of the demo: its style, cards of items and tables. All text that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import streamlit as st

from infra.pages import STYLE_VARIABLES, escaped
from serving.demo.explained import Explained, Reason

__all__ = ["HEAD", "cards", "plain_table", "short", "stylesheet", "when"]

HEAD = "recsys"
VERDICTS = {
    "✓ passed": "good",
    "✗ failed": "bad",
    "passed": "good",
    "failed": "bad",
    "drifted": "bad",
    "stable": "good",
    "held": "bad",
    "promoted": "good",
}
STYLE = (
    f"<style>\n{STYLE_VARIABLES}\n"
    + """\
h1 { font-size: 1.9rem !important; padding: 0 0 .6rem !important; }
h2, h3 { font-size: 1.15rem !important; padding: .5rem 0 .35rem !important; }
[data-testid="stMetricValue"] { font-size: 1.35rem; }
section[data-testid="stSidebar"][aria-expanded="true"] { min-width: 21rem; }
.block-container { padding-top: 3.75rem; max-width: 84rem; }
.item { display: grid; grid-template-columns: 2.2rem 1fr; gap: .2rem .6rem; padding: .55rem .8rem; border: 1px solid var(--line);
        border-radius: .5rem; margin-bottom: .45rem; background: #fff; }
.item.slim { padding: .35rem .7rem; margin-bottom: 0; }
.item .rank { font-size: 1.25rem; font-weight: 650; color: var(--blue); line-height: 1.5rem; text-align: right; }
.item .title { font-weight: 600; } .item .year { color: var(--soft); font-weight: 400; }
.item .bar { height: .26rem; border-radius: .2rem; background: var(--line); margin: .3rem 0 .25rem; }
.item .bar div { height: 100%; border-radius: .2rem; background: var(--blue); }
.item .why { color: var(--soft); font-size: .83rem; line-height: 1.35rem; } .item .why b { font-weight: 600; color: var(--ink); }
.scroll { overflow-x: auto; }
table.plain { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
table.plain th { text-align: left; color: var(--soft); font-weight: 600; font-size: .8rem; }
table.plain th, table.plain td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); vertical-align: top; border-left: 0; border-right: 0; }
table.plain td.short { white-space: nowrap; } table.plain td.number { text-align: right; white-space: nowrap; } table.plain td.good { color: var(--green); white-space: nowrap; }
table.plain td.bad { color: var(--red); font-weight: 600; white-space: nowrap; }
.tag { display: inline-block; font-size: .72rem; padding: 0 .45rem; border-radius: .7rem; background: var(--ground); color: var(--ink); margin-right: .2rem; }
.rule { background: var(--sand); color: var(--ink); } .up { color: var(--green); } .down { color: var(--red); } .new { color: var(--blue); }
.move { font-size: .8rem; font-weight: 600; margin-left: .4rem; }
</style>
"""
)


def stylesheet() -> None:
    """Add the page's style. Call it once per run."""
    st.html(STYLE)


def short(version: str) -> str:
    """Return a version's time and the first digits of its digest, which is enough to tell versions apart."""
    stamp, _, digest = version.partition("-")
    try:
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return version[:24]
    return f"{at:%Y-%m-%d %H:%M} {digest[:6]}"


def when(seconds: int) -> str:
    """Format UTC seconds as a date and time."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def cards(items: Sequence[Explained], other: Sequence[int] | None = None, *, noun: str, detail: bool = True) -> None:
    """Draw a list of items with the reasons for each.

    Args:
        items: The list, best first.
        other: Indices of another list. If it is given, each item shows how its rank differs from that list.
        noun: What the team calls one item.
        detail: Whether to show the reasons.
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
        html.append(
            f'<div class="item"><div class="rank">{place}</div><div><span class="title">{escape(item.title)}</span>{year}'
            f"{_moved(item.index, place, other)}<div>{tags}{fired}</div>"
            f'<div class="bar" title="score {item.score:.3f}"><div style="width:{width:.0f}%"></div></div>{why}</div></div>'
        )
    st.html("".join(html))


def plain_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw rows as a table. Long words wrap, so nothing is cut off."""
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>" for row in rows)
    st.html(f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    text = "" if value is None else str(value)
    kind = next((kind for word, kind in VERDICTS.items() if text.endswith(word)), "short" if len(text) < 20 else "")
    return f'<td class="{kind}">{escape(text)}</td>'


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
        return '<span class="move" style="color:var(--grey)">same rank</span>'
    return f'<span class="move {"up" if step > 0 else "down"}">{"▲" if step > 0 else "▼"} {abs(step)}</span>'
