"""Packages that only some commands need, and the command that installs them."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from configs.errors import SettingsError

__all__ = ["install_command", "require"]

PROJECT = "movielens-recsys"
OF_EXTRA = re.compile(r"^(?P<package>.+?)\s*;\s*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]$")


def install_command(extra: str) -> str:
    """Return the command line that installs the packages of an extra into this Python."""
    try:
        found = [match for each in requires(PROJECT) or () if (match := OF_EXTRA.match(each))]
    except PackageNotFoundError:  # run from its folder, without being installed
        found = []
    packages = [match["package"] for match in found if match["extra"] == extra] or [f"{PROJECT}[{extra}]"]
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


def require(extra: str, what: str, *modules: str) -> None:
    """Make sure that the modules of an extra can be imported.

    Args:
        extra: Name of the extra in pyproject.toml.
        what: Who needs them, as the subject of a sentence.
        modules: The modules.

    Raises:
        SettingsError: One is not installed. The message names the command that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise SettingsError(
            f"{what} needs {' and '.join(missing)}, which {are} not installed. Install {them} with `{install_command(extra)}`."
        )
