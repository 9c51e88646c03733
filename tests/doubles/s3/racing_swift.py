"""OpenStack Swift's S3 API, from an environment of its own that `make swift` installs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PYTHON", "swift_s3"]

# Beside this environment, where `make swift` puts it; RECSYS_TEST_SWIFT names the Python of another one.
PYTHON = Path(os.environ.get("RECSYS_TEST_SWIFT", Path(sys.prefix) / "swift" / "bin" / "python"))


@contextmanager
def swift_s3(folder: Path) -> Iterator[str]:
    """Run Swift and yield the address of its S3 API. The access key is `test:tester`, the secret `testing`."""
    with (folder / "output").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [PYTHON, "-W", "ignore", Path(__file__).with_name("racing_swift_program.py"), folder],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, (folder / "output").read_text(encoding="utf-8")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
