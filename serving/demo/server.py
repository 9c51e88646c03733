"""The ASGI application of `recsys demo`: Streamlit, and the pages of the store beside it at /pages/.

Streamlit serves files of a folder itself, but no objects of a store, and HTML only as text. Routes of an `App` answer at the same
port, so that the demo links to the pages on whatever host it is reached.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from serving.demo.context import context_of
from serving.pages import StoredPages

__all__ = ["ROUTES", "app"]


@cache
def stored_pages() -> StoredPages:
    """Return the pages of the store that the settings name."""
    return StoredPages(context_of().view.store)


async def index(request: Request) -> Response:
    return await (await stored_pages().index()).response(request.headers)


async def page(request: Request) -> Response:
    return await (await stored_pages().page(request.path_params["key"])).response(request.headers)


async def without_slash(request: Request) -> Response:
    return RedirectResponse("pages/")


ROUTES = [Route("/pages", without_slash), Route("/pages/", index), Route("/pages/{key:path}", page)]
app = st.App(Path(__file__).with_name("app.py"), routes=ROUTES)
