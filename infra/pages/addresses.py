"""Which objects of a store are pages, and the addresses at which a browser opens them."""

from __future__ import annotations

import re
from pathlib import Path

from configs.settings import StoreSettings

__all__ = ["is_page", "page_link"]

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
PAGE = re.compile(
    rf"""
    (?:replays/{NAME}/)?  # a replay keeps a store of its own within the store
    (?:
        models/{NAME}/{NAME}/(?:report\.html|recsys_report\.html|decision\.json)
        | decisions/{NAME}/{NAME}/{NAME}\.(?:html|json)
        | drift/{NAME}/{NAME}/{NAME}\.(?:html|json)
        | due/{NAME}/{NAME}\.(?:html|json)
        | runs/{NAME}/{NAME}/{NAME}\.json
        | audits/{NAME}/{NAME}/{NAME}\.json
        | comparisons/{NAME}/report\.(?:html|json)
        | rollouts/{NAME}/{NAME}/report\.(?:html|json)
        | replay/report\.(?:html|json)
    )
    """,
    re.VERBOSE,
)


def is_page(key: str) -> bool:
    """Return whether the object of a store is a page for people, or the figures of one: no weights, events or histories."""
    return PAGE.fullmatch(key) is not None


def page_link(address: str, store: StoreSettings) -> str | None:
    """Return the link that opens a stored page in a browser.

    Args:
        address: Address of the page in the store, as `Store.uri` gives it.
        store: Settings of the store. `pages_url` says where its pages are served.

    Returns:
        The link, or None if the pages are not served anywhere, or if the address is not that of a page in this store.
    """
    if store.pages_url is None:
        return None
    place = store.place
    root = place.expanduser().absolute().as_uri() if isinstance(place, Path) else f"s3://{'/'.join(filter(None, place))}"
    key = address.removeprefix(f"{root}/")  # the name of a page has no character that an address would escape
    return f"{store.pages_url.rstrip('/')}/{key}" if is_page(key) else None
