"""Pages of the reference, each made from the code that it describes, so that it cannot differ from it.

A page is a function that returns Markdown. `PAGES` names the file of each. They are made whenever the site is built: a committed copy
would have to be made again with each setting, option, route and metric that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from website.reference import commands, deployments, errors, http_api, metrics, settings

__all__ = ["PAGES"]

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/settings.md": settings.page,
    "reference/commands.md": commands.page,
    "reference/http-api.md": http_api.page,
    "reference/metrics.md": metrics.page,
    "reference/errors.md": errors.page,
    "reference/deployments.md": deployments.page,
}
