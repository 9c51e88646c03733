from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from configs.errors import SourceError
from infra.download import download

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves CONTENT with faults.

    `cut` bodies end early, `busy` answers are 503, and ranges begin `shift` bytes early. Without `ranges`, Range is ignored. Without
    `sizes`, answers do not state their length. The file may change.
    """

    cut = busy = shift = 0
    ranges = sizes = True
    etag = '"one"'
    content = CONTENT
    asked: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/file.zip":
            self.send_error(404)
            return
        if server.busy:
            server.busy -= 1
            self.send_error(503)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) - server.shift
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.sizes:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.cut:
            server.cut -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.asked = []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_a_broken_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cut = 2
    seen: list[int] = []
    download(server.url, tmp_path / "f", pause_s=0, on_bytes=lambda have, total: seen.append(have))
    assert (tmp_path / "f").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_later_run_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.cut = 1
    with pytest.raises(SourceError, match=r"f\.part"):
        download(server.url, tmp_path / "f", retries=0)
    assert not (tmp_path / "f").exists()
    download(server.url, tmp_path / "f", retries=0)
    assert (tmp_path / "f").read_bytes() == CONTENT and server.asked[1] is not None


def test_a_download_from_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.cut, server.ranges = 1, False
    download(server.url, tmp_path / "f", pause_s=0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_that_has_changed_is_not_appended_to_the_old_half(server: Server, tmp_path: Path) -> None:
    server.cut = 1
    with pytest.raises(SourceError):
        download(server.url, tmp_path / "f", retries=0)
    server.etag, server.content = '"two"', CONTENT[::-1]
    download(server.url, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT[::-1]


def test_a_range_that_begins_elsewhere_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.cut, server.shift = 1, 10
    download(server.url, tmp_path / "f", pause_s=0)
    assert (tmp_path / "f").read_bytes() == CONTENT and server.asked[-1] is None


def test_a_complete_part_of_a_killed_run_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    (tmp_path / "f.part.etag").write_text(server.etag)
    download(server.url, tmp_path / "f", pause_s=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-", None]


def test_a_file_is_read_to_the_end_if_the_server_does_not_state_its_size(server: Server, tmp_path: Path) -> None:
    server.sizes = False
    totals: set[int | None] = set()
    download(server.url, tmp_path / "f", on_bytes=lambda have, total: totals.add(total))
    assert (tmp_path / "f").read_bytes() == CONTENT and totals == {None}


def test_a_misspelt_checksum_is_refused_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="write md5:<hex> or sha256:<hex>"):
        download(server.url, tmp_path / "f", checksum="sha1:ab")
    assert server.asked == []


def test_a_cache_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SourceError, match=r"cache.*data\.cache_dir"):
        download(server.url, tmp_path / "cache" / "f")


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.busy = 2
    download(server.url, tmp_path / "f", pause_s=0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_server_that_stays_busy_ends_the_download(server: Server, tmp_path: Path) -> None:
    server.busy = 9
    with pytest.raises(SourceError, match=r"answered 503; 3 attempts"):
        download(server.url, tmp_path / "f", retries=2, pause_s=0)
    assert len(server.asked) == 3


def test_a_refusal_is_not_retried(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="status 404"):
        download(server.url.replace("file", "other"), tmp_path / "f", pause_s=0)
    assert len(server.asked) == 1


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    good = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    with pytest.raises(SourceError, match="not the expected abc"):
        download(server.url, tmp_path / "f", checksum="md5:abc")
    assert not list(tmp_path.iterdir())
    download(server.url, tmp_path / "f", checksum=good)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_without_a_network_the_message_says_how_to_give_a_local_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"data\.local_path.*data\.mirror_url"):
        download("http://127.0.0.1:9/file.zip", tmp_path / "f", retries=1, pause_s=0, timeout_s=2)


def test_an_address_is_shown_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:9/x\.zip could not be downloaded") as refused:
        download("http://me:hidden@127.0.0.1:9/x.zip?token=hidden", tmp_path / "x.zip", timeout_s=1, retries=0)
    assert "hidden" not in str(refused.value)


def test_a_password_is_read_from_the_users_file_and_not_from_the_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str | None] = []
    answer = Handler.do_GET
    monkeypatch.setattr(Handler, "do_GET", lambda self: (sent.append(self.headers.get("Authorization")), answer(self)))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password planted\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    download(server.url, tmp_path / "file.zip")
    assert sent == ["Basic bWU6cGxhbnRlZA=="]
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me pass-word planted\n")
    with pytest.raises(SourceError, match="cannot be read, line 1") as refused:
        download(server.url, tmp_path / "other.zip")
    assert "planted" not in str(refused.value)
