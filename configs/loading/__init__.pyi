from .recorded import read_recorded, refuse_newer
from .settings import (
    Effective,
    Given,
    about_preset,
    effective_settings,
    load_settings,
    merged,
    named_configs,
    read_settings_file,
    settings_in,
    settings_of_run,
)

__all__ = [
    "Effective",
    "Given",
    "about_preset",
    "effective_settings",
    "load_settings",
    "merged",
    "named_configs",
    "read_recorded",
    "read_settings_file",
    "refuse_newer",
    "settings_in",
    "settings_of_run",
]
