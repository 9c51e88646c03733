from __future__ import annotations

from pathlib import Path

import pytest

from infra.digests import digest_of, sha256_of, sha256_of_json

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_a_file_and_its_bytes_have_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    assert sha256_of(path) == sha256_of(b"hello") == HELLO
    assert digest_of(path, "md5") == "5d41402abc4b2a76b9719d911017c592"


def test_the_digest_of_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "none")


def test_the_digest_of_json_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256_of_json({"b": [1, None], "a": "ü"}) == sha256_of_json({"a": "ü", "b": [1, None]})
    assert sha256_of_json({}) == sha256_of(b"{}")
