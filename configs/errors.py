"""Errors that a user can fix: each message is one paragraph that names the cause and the remedy.

Every other exception is a defect of the product and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "CannotExportError",
    "ChampionMissingError",
    "ComparisonError",
    "DataRefusedError",
    "DeploymentMissingError",
    "FrozenError",
    "GateError",
    "LostReplicaError",
    "ModelMissingError",
    "NewerReleaseError",
    "NotFoundError",
    "OverloadedError",
    "OverwrittenError",
    "RecsysError",
    "RentError",
    "ReplayError",
    "RequestInvalidError",
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
    """Base class of every error whose message alone explains what happened and what to do."""


class SettingsError(RecsysError):
    """A setting is misspelt, of the wrong type or out of range, or its file cannot be read."""


class SourceError(RecsysError):
    """A data source is missing, unreachable, truncated, or not in a known format."""


class DataRefusedError(RecsysError):
    """The rows were read but do not form a valid dataset: too many are bad, or none are left."""


class TrainingError(RecsysError):
    """Training cannot start or has diverged. The message says where."""


class CannotExportError(RecsysError):
    """A model of this kind does not have what an export asks for."""


class LostReplicaError(TrainingError):
    """A replica cannot continue because another replica of the same training has ended."""


class GateError(RecsysError):
    """The gate cannot decide because its inputs do not belong together."""


class FrozenError(RecsysError):
    """The model is frozen: nothing is promoted, and no rollout goes on, until `recsys thaw`."""


class RequestRefusedError(RecsysError):
    """A request asks for something that does not exist. The message lists the valid values."""


class RequestInvalidError(RecsysError):
    """A request matches its schema but exceeds a configured limit."""


class ModelMissingError(RecsysError):
    """The version that a request needs is not served."""


class OverloadedError(RecsysError):
    """The queue of waiting requests is full."""


class RunInProgressError(RecsysError):
    """Another run holds the lock of this store."""


class StoreError(RecsysError):
    """A store refused or failed an operation."""


class AlreadyExistsError(StoreError):
    """A create-only write found an existing object."""


class OverwrittenError(StoreError):
    """A create-only write succeeded and was then overwritten by another one: the store is not fit for promotions."""


class NotFoundError(StoreError):
    """The object is not in the store."""


class StoreUnavailableError(StoreError):
    """The store does not respond. The operation may be retried."""


class StoreDeniedError(StoreError):
    """The store responds but refuses these credentials or this bucket."""


class StoreFullError(StoreError):
    """The disk or quota behind the store is full."""


class VersionCorruptError(StoreError):
    """A stored version does not match its manifest."""


class NewerReleaseError(VersionCorruptError):
    """A newer release of this project wrote a version, with settings that this release does not know."""


class ChampionMissingError(RecsysError):
    """Nothing has been promoted yet."""


class ComparisonError(RecsysError):
    """Runs of a comparison failed, or do not belong together."""


class RentError(RecsysError):
    """RunPod failed or refused a request for a pod, or the account's key is missing."""


class ReplayError(RecsysError):
    """A replay cannot start, or cannot be resumed with the settings it was started with."""


class DeploymentMissingError(RecsysError):
    """The Prefect server does not have the deployment to start."""
