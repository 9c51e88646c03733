"""Page: the latest run in plain words, from what came in to what happens next."""

from __future__ import annotations

from datetime import datetime
from html import escape

import streamlit as st

from infra.registry import ModelRef
from serving.demo import Chapter, Context, DriftRecord, Records, link_to_reports, tell

__all__ = ["show"]

SIGNS = {
    "good": '<span class="sign" aria-hidden="true">✓</span>',
    "bad": '<span class="sign" aria-hidden="true">✗</span>',
    "open": "",
}


def show(context: Context) -> None:
    """Draw the page."""
    refs = context.versions()
    if not refs:
        st.info(
            f"No run of {context.settings.model_name} has stored a version in {context.view.place} yet. `recsys retrain` starts one."
        )
        return
    chosen = st.selectbox(
        "Run", refs, format_func=lambda ref: f"{_time(ref)} UTC · {ref.outcome}", key="run", help="The latest run comes first."
    )
    measured = _measured(context, chosen)
    st.html(_page(tell(_records(context, refs, refs.index(chosen), measured))))
    link_to_reports(
        {
            "The gate's decision, with all figures": context.view.page_key(chosen),
            "The data, check by check": None if measured is None else measured.page,
        }
    )


def _measured(context: Context, ref: ModelRef) -> DriftRecord | None:
    """Return the run's measurement of drift, or None if there is none."""
    made = datetime.fromisoformat(ref.created)
    return next((each for each in reversed(context.drift()) if each.dataset == ref.dataset and each.when <= made), None)


def _records(context: Context, refs: list[ModelRef], place: int, measured: DriftRecord | None) -> Records:
    """Read what the store has of a run. `refs` are the versions, newest first."""
    view, ref = context.view, refs[place]
    before = refs[place + 1] if place + 1 < len(refs) else None
    newest = view.newest_dataset(ref.dataset.partition("/")[0])
    return Records(
        ref=ref,
        lineage=view.lineage(ref),
        evaluation=view.json_of(ref, "evaluation.json"),
        decision=view.decision(ref),
        dataset=view.dataset(ref.dataset),
        before=None if before is None else view.dataset(before.dataset),
        newest=None if newest is None else newest[1],
        drift=None if measured is None else measured.result,
        promotions=context.promotions(),
        nouns=context.nouns(ref),
    )


def _time(ref: ModelRef) -> str:
    return f"{datetime.fromisoformat(ref.created):%Y-%m-%d %H:%M}"


def _page(chapters: list[Chapter]) -> str:
    return "".join(
        f'<section class="chapter {chapter.mark}"><h2>{escape(chapter.question)}</h2>'
        f'<p class="answer">{SIGNS[chapter.mark]}{_text(chapter.answer)}</p>'
        + "".join(f"<p>{_text(detail)}</p>" for detail in chapter.details)
        + "</section>"
        for chapter in chapters
    )


def _text(text: str) -> str:
    """Return a sentence as HTML, with the commands between backticks as code."""
    parts = text.split("`")
    return "".join(f"<code>{escape(part)}</code>" if place % 2 else escape(part) for place, part in enumerate(parts))
