"""The demo's entry point, run by Streamlit: `recsys demo`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from configs.errors import RecsysError
from infra.pages import escaped
from serving.demo.context import Context, context_of
from serving.demo.look import HEAD, stylesheet
from serving.demo.views import ab, compare, drift, live, pipeline, recommend

PAGES: dict[str, tuple[str, str, Callable[[Context], None]]] = {
    "recommend": ("What comes next", ":material/recommend:", recommend.show),
    "compare": ("Side by side", ":material/compare_arrows:", compare.show),
    "live": ("Live", ":material/bolt:", live.show),
    "pipeline": ("Pipeline", ":material/account_tree:", pipeline.show),
    "drift": ("Drift", ":material/monitoring:", drift.show),
    "experiments": ("A/B", ":material/science:", ab.show),
}


def main() -> None:
    """Draw the requested page. An error that a person can fix appears on it as one paragraph."""
    st.set_page_config(page_title=HEAD, page_icon=":material/recommend:", layout="wide")
    stylesheet()
    context = context_of()
    chosen = st.navigation(
        [
            st.Page(partial(draw, page, context), title=title, icon=icon, url_path=path, default=path == "recommend")
            for path, (title, icon, page) in PAGES.items()
        ]
    )
    chosen.run()


def draw(page: Callable[[Context], None], context: Context) -> None:
    """Draw the page, or the message that explains why it cannot be drawn."""
    try:
        page(context)
    except RecsysError as error:
        st.error(escaped(str(error)))


if __name__ == "__main__":
    main()
