"""The demo's entry point, run by Streamlit: `recsys demo`.

It imports little, so that a visitor sees the heading at once: what loads models is imported below it, which takes seconds.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import NamedTuple

import streamlit as st

from configs.errors import RecsysError
from infra.pages import escaped
from serving.demo.look import HEAD, link_reports, stylesheet

__all__ = ["PAGES", "draw", "main"]


class PageHead(NamedTuple):
    """A page in the menu."""

    title: str  # in the menu
    heading: str
    icon: str


PAGES = {
    "recommend": PageHead("What comes next", "What comes next", ":material/recommend:"),
    "latest": PageHead("The latest run", "The latest run", ":material/fact_check:"),
    "compare": PageHead("Side by side", "Two versions side by side", ":material/compare_arrows:"),
    "live": PageHead("Live", "Live", ":material/bolt:"),
    "pipeline": PageHead("Pipeline", "Pipeline", ":material/account_tree:"),
    "drift": PageHead("Drift", "Drift", ":material/monitoring:"),
    "experiments": PageHead("A/B", "A/B experiments", ":material/science:"),
}
"""By the name of the module in `serving.demo.views`, which is also the page's address."""


def main() -> None:
    """Draw the requested page."""
    st.set_page_config(page_title=HEAD, page_icon=":material/recommend:", layout="wide")
    stylesheet()
    chosen = st.navigation(
        [
            st.Page(partial(draw, name), title=page.title, icon=page.icon, url_path=name, default=name == "recommend")
            for name, page in PAGES.items()
        ]
    )
    link_reports()
    chosen.run()


def draw(name: str) -> None:
    """Draw a page below its heading, or the paragraph that says what a person has to mend first."""
    st.title(PAGES[name].heading)
    try:
        with st.spinner("Starting ..."):
            view = import_module(f"serving.demo.views.{name}")
            context = import_module("serving.demo.context").context_of()
        view.show(context)
    except RecsysError as error:
        st.error(escaped(str(error)))


if __name__ == "__main__":
    main()
