from .event_files import open_event_file
from .features import build_features
from .merge import merge_interactions
from .metadata import TABLES, DescriptionFile, Kind, described, description_kind, public, rated, read_descriptions, seeded
from .movielens import INTERACTION_COLUMNS
from .release import Release, building
from .row_checks import MILLISECONDS_FROM, Mask
from .sources import IngestedSource, ingest, locate
from .validation import AcceptedModel, ItemModel, UserModel, Validated, ValidationReport

__all__ = [
    "INTERACTION_COLUMNS",
    "MILLISECONDS_FROM",
    "TABLES",
    "AcceptedModel",
    "DescriptionFile",
    "IngestedSource",
    "ItemModel",
    "Kind",
    "Mask",
    "Release",
    "UserModel",
    "Validated",
    "ValidationReport",
    "build_features",
    "building",
    "described",
    "description_kind",
    "ingest",
    "locate",
    "merge_interactions",
    "open_event_file",
    "public",
    "rated",
    "read_descriptions",
    "seeded",
]
