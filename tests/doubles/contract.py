"""What every store must do, checked on each kind."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, NotFoundError, StoreError
from infra.storage import Store
from infra.storage.local import LocalStore


def check_contract(store: Store, folder: Path) -> None:
    """Create-only, replace, read, list, delete, files."""
    store.put_new("a/b", b"first")
    with pytest.raises(AlreadyExistsError, match="a/b"):
        store.put_new("a/b", b"second")
    assert store.get("a/b") == b"first"
    store.put("a/b", b"replaced")
    assert store.get("a/b") == store.get("a/b", limit=8) == b"replaced"
    with pytest.raises(StoreError, match=r"a/b has more than 7 bytes"):
        store.get("a/b", limit=7)
    source = folder / "source.bin"
    source.write_bytes(b"file" * 3_000_000)
    store.put_new("a/file", source)
    with pytest.raises(AlreadyExistsError):
        store.put_new("a/file", source)
    store.fetch("a/file", folder / "deep" / "copy.bin")
    assert (folder / "deep" / "copy.bin").read_bytes() == source.read_bytes()
    store.put("ab", b"")
    store.put("b/c/d", b"x")
    assert list(store.list("a/")) == ["a/b", "a/file"]
    assert list(store.list("a")) == ["a/b", "a/file", "ab"]
    assert list(store.list("b/c")) == ["b/c/d"]
    assert list(store.list("none/")) == []
    assert list(store.list()) == ["a/b", "a/file", "ab", "b/c/d"]
    for prefix in ("/", "//", "../", "a/../a/", "a/b/"):
        assert list(store.list(prefix)) == []
    assert store.exists("ab") and not store.exists("a") and not store.exists("zz")
    for absent in ("ab", "ab", "a", "a/b/c"):
        store.delete(absent)
    assert not store.exists("ab")
    for absent in ("ab", "a", "a/b/c"):
        for read in (lambda key: store.get(key), lambda key: store.fetch(key, folder / "none")):
            with pytest.raises(NotFoundError, match=absent):
                read(absent)
    assert store.get("a/b") == b"replaced"
    with pytest.raises(FileNotFoundError, match=r"no-such-source"):
        store.put("c", folder / "no-such-source")
    assert not (folder / "none").exists()
    assert [path.name for path in (folder / "deep").iterdir()] == ["copy.bin"]
    assert store.uri("a/b").endswith("/a/b")
    for key in ("", "/a", "../a", "a/../b", "a//b", "a/", ".", ".tmp/a", "a\n", "\ud800"):
        for use in (lambda k: store.put(k, b""), lambda k: store.put_new(k, b""), store.get, store.exists, store.delete):
            with pytest.raises(ValueError, match="not a key"):
                use(key)


def check_one_winner(store: Store, *, writers: int, rounds: int) -> None:
    """Exactly one of many concurrent creates of one key succeeds, and its bytes are stored."""
    store.put_new("warm", b"")

    def create(number: int, key: str) -> int | None:
        try:
            store.put_new(key, bytes([number]) * 50_000)
        except AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(writers) as pool:
        for turn in range(rounds):
            won = [number for number in pool.map(lambda n, t=turn: create(n, f"race/{t}"), range(writers)) if number is not None]
            assert len(won) == 1
            assert store.get(f"race/{turn}") == bytes([won[0]]) * 50_000


def create_as(folder: str, key: str, content: bytes, results: multiprocessing.Queue[str | None]) -> None:
    """Create the key in a separate process. Put the first letter of the content into `results` if it was created, or else None."""
    try:
        LocalStore(Path(folder)).put_new(key, content)
        results.put(content[:1].decode())
    except AlreadyExistsError:
        results.put(None)
