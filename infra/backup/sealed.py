"""Files at rest: as they are, or encrypted by GnuPG with a passphrase."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from configs.child_processes import child_environment
from configs.errors import SettingsError

__all__ = ["Seal"]

ENDING = ".gpg"


@dataclass(frozen=True)
class Seal:
    """Encrypts and decrypts files with the passphrase in a file. Without such a file, it leaves them as they are."""

    passphrase: Path | None = None

    def __post_init__(self) -> None:
        if self.passphrase is None:
            return
        if shutil.which("gpg") is None:
            raise SettingsError("Encrypted backups need GnuPG: apt-get install -y --no-install-recommends gpg")
        if not self.passphrase.is_file() or not self.passphrase.read_bytes().strip():
            raise SettingsError(f"{self.passphrase} has no passphrase.")

    def name(self, key: str) -> str:
        """Return the name of a file at rest."""
        return key if self.passphrase is None else key + ENDING

    @contextmanager
    def closed(self, path: Path) -> Iterator[Path]:
        """Yield the file as it is kept."""
        with self._through(path, "--symmetric", "--cipher-algo", "AES256") as made:
            yield made

    @contextmanager
    def opened(self, path: Path) -> Iterator[Path]:
        """Yield the file as it was. Raises SettingsError if the passphrase is another one or the file is damaged."""
        with self._through(path, "--decrypt") as made:
            yield made

    @contextmanager
    def _through(self, path: Path, *action: str) -> Iterator[Path]:
        if self.passphrase is None:
            yield path
            return
        with TemporaryDirectory() as home:
            made = Path(home) / "made"
            how = [
                "--batch",
                "--quiet",
                "--homedir",
                home,
                "--pinentry-mode",
                "loopback",
                "--passphrase-file",
                str(self.passphrase),
            ]
            done = subprocess.run(
                ["gpg", *how, "--output", str(made), *action, str(path)],
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SettingsError(f"GnuPG cannot process {path.name}: {done.stderr.strip()[-300:]}")
            yield made
