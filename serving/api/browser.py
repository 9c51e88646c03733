"""The routes for people with a browser: where things are, the documentation, and the pages of the store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from infra.pages import render_template
from serving.api.documents import FILES, FOR_PEOPLE, documentation, file_content
from serving.api.responses import Home, json_response
from serving.api.routes import Worker
from serving.pages import STILL, Content, StoredPages

__all__ = ["router"]

router = APIRouter(tags=[FOR_PEOPLE])
TEMPLATE = "serving/api/templates/home.html"
DAY_S = 86_400
HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
STORED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The page",
        "content": {kind: {} for kind in ("text/html", "application/json", "image/svg+xml", "image/png")},
    },
    304: {"description": "The page has not changed since the browser got it"},
}


@router.get("/", response_model=Home, responses=HTML, summary="Say where things are")
async def home(request: Request, worker: Worker) -> Response:
    """Name the champion and the addresses of everything else: as JSON, or as a page for a browser."""
    champion = worker.engine.models.champion
    found = Home(model_name=worker.settings.model_name, champion=None if champion is None else champion.version)
    if "text/html" not in request.headers.get("accept", ""):
        return json_response(found)
    request.state.version = "" if champion is None else champion.version
    page = render_template(TEMPLATE, home=found, champion=champion)
    return await Content.of(page.encode(), "text/html; charset=utf-8", STILL).response(request.headers)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Show the OpenAPI document."""
    return await documentation(request.app.title).response(request.headers)


@router.get("/docs/{name}", include_in_schema=False)
async def docs_file(name: str, request: Request) -> Response:
    """Return a file that the documentation loads."""
    if name not in FILES:
        raise HTTPException(404, "There is no such file.")
    return await file_content(name).response(request.headers, kept_s=DAY_S)


@router.get("/pages", include_in_schema=False)
async def pages_without_slash() -> Response:
    return RedirectResponse("pages/")


@router.get("/pages/", response_class=Response, responses=HTML, summary="List the newest pages")
async def pages(request: Request) -> Response:
    """List the pages of the newest decisions, measurements of drift, comparisons and replays."""
    stored: StoredPages = request.app.state.pages
    return await (await stored.index()).response(request.headers)


@router.get("/pages/{key:path}", response_class=Response, responses=STORED, summary="Show a page of the store")
async def page(
    key: Annotated[str, Path(max_length=500, description="Key of the page in the store.")], request: Request
) -> Response:
    """Show a page, or the figures of one, as a run has stored it."""
    stored: StoredPages = request.app.state.pages
    return await (await stored.page(key)).response(request.headers)
