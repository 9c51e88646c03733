"""Reads the pages of a store: each within bounds, off the event loop, and kept for a moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cachetools import TTLCache
from starlette.exceptions import HTTPException

from configs.errors import NotFoundError, RecsysError
from infra.pages import is_page
from infra.storage import Store
from serving.pages.content import DRAWN, STILL, Content
from serving.pages.index import render_index

__all__ = ["StoredPages"]

logger = logging.getLogger(__name__)
MOST = 16 << 20  # bytes of one page; Evidently's have 4 MB
KEPT = 32 << 20  # bytes of packed pages in memory
KEPT_S = 10.0  # the report of a comparison or of a replay is replaced when it is run again
AT_ONCE = 2  # pages that are read and packed at the same time
BY_SCRIPTS = (".evidently.html", "/recsys_report.html")
TYPES = {"html": "text/html; charset=utf-8", "json": "application/json", "svg": "image/svg+xml", "png": "image/png"}
INDEX = ""


class StoredPages:
    """The pages of one store. All methods are called on the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: TTLCache[str, Content] = TTLCache(KEPT, KEPT_S, getsizeof=lambda content: len(content.packed))
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def page(self, key: str) -> Content:
        """Return the page at a key.

        Raises:
            HTTPException: The key is not that of a stored page (404), or the store cannot be read (503).
        """
        if not is_page(key):
            raise HTTPException(404, "There is no page at this address. GET /pages/ lists the newest pages.")
        return await self._read(key, self._packed)

    async def index(self) -> Content:
        """Return the list of the newest pages. Raises HTTPException if the store cannot be read (503)."""
        return await self._read(INDEX, lambda _: Content.of(render_index(self._store), TYPES["html"], STILL))

    async def _read(self, key: str, read: Callable[[str], Content]) -> Content:
        if (found := self._kept.get(key)) is not None:
            return found
        async with self._turns:
            if (found := self._kept.get(key)) is not None:  # another request has read it meanwhile
                return found
            try:
                found = await asyncio.to_thread(read, key)
            except NotFoundError:
                raise HTTPException(404, "There is no such page in the store. GET /pages/ lists the newest pages.") from None
            except RecsysError as error:
                logger.warning("a page cannot be read", extra={"reason": str(error)})
                raise HTTPException(503, "The store cannot be read. The server's log says why.", {"Retry-After": "1"}) from None
        if len(found.packed) <= KEPT:
            self._kept[key] = found
        return found

    def _packed(self, key: str) -> Content:
        policy = DRAWN if key.endswith(BY_SCRIPTS) else STILL
        return Content.of(self._store.get(key, MOST), TYPES[key.rpartition(".")[2]], policy)
