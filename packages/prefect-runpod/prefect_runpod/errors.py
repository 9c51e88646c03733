"""Errors whose message alone says what happened and what to do."""

from __future__ import annotations

__all__ = ["PodError", "SettingsError"]


class PodError(Exception):
    """Base class of every error that a user can fix: its message is one paragraph with the cause and the remedy."""


class SettingsError(PodError):
    """A setting is not allowed, or the key of the account is missing."""
