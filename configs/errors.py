"""Errors that a person can mend: each message is one paragraph that names the culprit and the way out.

Everything else that is raised is a defect of the product and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "ChampionMissingError",
    "ComparisonError",
    "DataRefusedError",
    "DeploymentMissingError",
    "GateError",
    "LostReplicaError",
    "ModelMissingError",
    "NotFoundError",
    "OverloadedError",
    "RecsysError",
    "ReplayError",
    "RequestRefusedError",
    "RunInProgressError",
    "SettingsError",
    "SourceError",
    "StoreDeniedError",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "TrainingError",
    "VersionCorruptError",
]


class RecsysError(Exception):
    """Base of every error whose message alone tells the user what happened and what to do."""


class SettingsError(RecsysError):
    """A setting is misspelt, of the wrong type, out of range, or its file cannot be read."""


class SourceError(RecsysError):
    """A data source is missing, unreachable, truncated, or not in a known format."""


class DataRefusedError(RecsysError):
    """The rows were read, but they do not make a dataset: too many are bad, or none are left."""


class TrainingError(RecsysError):
    """Training cannot start or has diverged; the message names where."""


class LostReplicaError(TrainingError):
    """A replica cannot go on because another one of the same training has ended."""


class GateError(RecsysError):
    """The gate cannot decide: what it compares does not belong together."""


class RequestRefusedError(RecsysError):
    """A request asks for what there is not; the message says what there is."""


class ModelMissingError(RecsysError):
    """The version that a request needs is not served."""


class OverloadedError(RecsysError):
    """More requests wait than may."""


class RunInProgressError(RecsysError):
    """Another run holds the lock of this store."""


class StoreError(RecsysError):
    """A store refused or failed an operation."""


class AlreadyExistsError(StoreError):
    """A create-only write met an existing object."""


class NotFoundError(StoreError):
    """The object is not in the store."""


class StoreUnavailableError(StoreError):
    """The store does not answer; the operation may be tried again."""


class StoreDeniedError(StoreError):
    """The store answers and refuses these credentials or this bucket."""


class StoreFullError(StoreError):
    """The disk or quota behind the store is full."""


class VersionCorruptError(StoreError):
    """A stored version does not match its manifest."""


class ChampionMissingError(RecsysError):
    """Nothing has been promoted yet."""


class ComparisonError(RecsysError):
    """Runs of a comparison failed, or do not belong together."""


class ReplayError(RecsysError):
    """A replay cannot begin, or cannot go on as it was begun."""


class DeploymentMissingError(RecsysError):
    """The Prefect server lacks a deployment that is to be started."""
