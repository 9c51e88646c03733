"""What setup reports of each object on the server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Change"]


@dataclass(frozen=True)
class Change:
    """What setup did to one object: `created`, `updated: ...`, `removed`, `unchanged`, or `left ...: ...` with the reason."""

    kind: str
    name: str
    done: str

    @property
    def changed(self) -> bool:
        return self.done != "unchanged" and not self.done.startswith("left ")
