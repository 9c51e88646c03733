"""A small S3 server whose faults a test chooses: what it answers, what it stores, and how its creates race."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from infra.storage.s3_exclusive import Proof

__all__ = ["Reply", "SmallS3", "small_s3"]

Reply = tuple[int, str]  # status, error code; a code that starts with < is the whole body


class SmallS3(ThreadingHTTPServer):
    """Keeps objects in memory.

    Attributes:
        objects: Path -> content and writer.
        reply: May replace the answer to a write or a read by an error. Writes of probes are neither counted nor replaced.
        refuse: May answer any request with an error, by its method, path and headers.
        conditional: Whether a create leaves an existing object unchanged.
        looks: When a create looks for the object: with the headers, after the body, or in one step with the write.
        gap: Returns the seconds between the look and the write.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.written: dict[str, datetime] = {}
        self.reply: Callable[[str, int], Reply | None] = lambda path, writes: None
        self.refuse: Callable[[str, str, Message], Reply | None] = lambda method, path, headers: None
        self.whole_reads_after = 0  # the bodies of this many GETs break off half-way
        self.stores_before_reply = False
        self.conditional = True
        self.looks: Literal["headers", "body", "writing"] = "writing"
        self.gap: Callable[[], float] = lambda: 0.0
        self.writer_header = "x-amz-meta-writer"
        self.tagged = False  # objects have an ETag, but a request for a range gets the whole object
        self.chunked = False  # answers to reads do not state their length
        self.writes = 0
        self.seen: list[tuple[str, str, Message]] = []
        self.lock = threading.Lock()
        self.uploads: dict[str, dict[int, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SmallS3
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        server = self.server
        create = self.headers.get("If-None-Match") == "*" and server.conditional
        taken = create and self.path in server.objects and server.looks == "headers"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused():
            return
        if "uploadId" in self.path:
            asked = parse_qs(urlsplit(self.path).query)
            server.uploads[asked["uploadId"][0]][int(asked["partNumber"][0])] = body
            self._answer(200, "")
            return
        taken = taken or (create and self.path in server.objects and server.looks == "body")
        if create and server.looks != "writing":
            time.sleep(server.gap())
        with server.lock:
            probe = "/.tmp/" in self.path
            server.writes += not probe
            reply = None if probe else server.reply(self.path, server.writes)
            taken = taken or (create and self.path in server.objects and server.looks == "writing")
            if taken and reply is None:
                reply = (412, "PreconditionFailed")
            if reply is None or (server.stores_before_reply and not taken):
                server.objects[self.path] = (body, self.headers.get("x-amz-meta-writer", ""))
                server.written[self.path] = datetime.now(UTC)
        self._answer(*(reply or (200, "")))

    def do_POST(self) -> None:
        """Begin an upload in parts, or put its parts together."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._refused():
            return
        parts = urlsplit(self.path)
        if not body:
            upload = f"u{len(self.server.uploads)}"
            self.server.uploads[upload] = {}
            self._answer(200, f"<Begun><UploadId>{upload}</UploadId></Begun>")
            return
        sent = self.server.uploads.pop(parse_qs(parts.query)["uploadId"][0])
        self.server.objects[parts.path] = (b"".join(content for _, content in sorted(sent.items())), "")
        self._answer(200, "<Completed><ETag>tag</ETag></Completed>")

    def do_HEAD(self) -> None:
        if self._refused():
            return
        found = (b"", "") if self.path.count("/") == 1 else self.server.objects.get(self.path)
        self.send_response(200 if found and self.path != "/c" else 404)
        if found:
            self.send_header(self.server.writer_header, found[1])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self) -> None:
        if self._refused():
            return
        self.server.objects.pop(self.path, None)
        self._answer(204, "")

    def do_GET(self) -> None:
        if self._refused():
            return
        parts = urlsplit(self.path)
        if "list-type" in parts.query:
            self._list(parts.path, parse_qs(parts.query).get("prefix", [""])[0])
            return
        reply, found = self.server.reply(self.path, 0), self.server.objects.get(self.path)
        if reply or not found:
            self._answer(*(reply or (404, "NoSuchKey")))
            return
        self.send_response(200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(found[0])))
        if self.server.tagged:
            self.send_header("ETag", '"tag"')
        self.end_headers()
        broken = self.server.whole_reads_after > 0
        self.server.whole_reads_after -= 1
        body = found[0][: len(found[0]) // 2] if broken else found[0]
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if self.server.chunked else body)
        self.close_connection = broken

    def _list(self, bucket: str, prefix: str) -> None:
        if reply := self.server.reply(self.path, 0):
            self._answer(*reply)
            return
        root = f"{bucket}/"
        with self.server.lock:
            entries = "".join(
                f"<Contents><Key>{escape(path.removeprefix(root))}</Key><Size>{len(content)}</Size>"
                f"<LastModified>{self.server.written.get(path, datetime.now(UTC)):%Y-%m-%dT%H:%M:%S.%fZ}</LastModified></Contents>"
                for path, (content, _) in sorted(self.server.objects.items())
                if path.startswith(root + prefix)
            )
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")

    def _refused(self) -> bool:
        self.server.seen.append((self.command, self.path, self.headers))
        reply = self.server.refuse(self.command, self.path, self.headers)
        if reply:
            self._answer(*reply)
        return reply is not None

    def _answer(self, status: int, code: str) -> None:
        whole = not code or code.startswith("<") or " " in code
        body = code.encode() if whole else f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def small_s3() -> Iterator[SmallS3]:
    """Run a server, and yield it."""
    running = SmallS3()
    Proof.known.clear()  # another server may have had this port
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
