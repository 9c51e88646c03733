"""What a browser is sent: packed once, sent in pieces, and not sent again while it is the same."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import anyio.to_thread
from starlette.responses import Response, StreamingResponse

__all__ = ["DRAWN", "STILL", "Content"]

PIECE = 64 << 10  # bytes that wait for a slow client
LEVEL = 5  # of gzip: 4 MB take 0.1 s
CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
STILL = f"sandbox; style-src 'unsafe-inline'; img-src data:; {CLOSED}"
"""Policy of a page without scripts: it may show styles and the figures that it contains, and ask nobody for anything."""
DRAWN = (
    "sandbox allow-scripts; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; "
    f"img-src data: blob:; {CLOSED}"
)
"""Policy of a page that scripts draw, such as Evidently's. The scripts have no origin: no cookies, and no access to the API."""


@dataclass(frozen=True)
class Content:
    """A page or a file for a browser."""

    packed: bytes  # with gzip
    size: int  # bytes before packing
    media_type: str
    policy: str  # Content-Security-Policy
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str, policy: str) -> Content:
        """Pack the content. This takes a tenth of a second for a large page, so do it in a thread."""
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(gzip.compress(content, LEVEL, mtime=0), len(content), media_type, policy, tag)

    async def response(self, asked: Mapping[str, str], *, kept_s: int = 0) -> Response:
        """Return the answer to a request.

        Args:
            asked: Headers of the request.
            kept_s: Seconds for which the browser need not ask again. With 0, it asks each time whether the content has changed.
        """
        headers = {
            "Cache-Control": f"private, max-age={kept_s}" if kept_s else "private, no-cache",
            "Content-Security-Policy": self.policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "ETag": self.tag,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if self.tag in asked.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in asked.get("accept-encoding", ""):
            sent, headers["Content-Encoding"] = self.packed, "gzip"
        else:
            sent = await anyio.to_thread.run_sync(gzip.decompress, self.packed)
        headers["Content-Length"] = str(len(sent))
        return StreamingResponse(_pieces(sent), headers=headers, media_type=self.media_type)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]
