from .columns import EVENT_NAMES, NUMERIC
from .files import EventFile, open_event_file
from .row_checks import Checks, Mask, joined_cells, judge_events, remedy, whole_numbers
from .text import EventChunk

__all__ = [
    "EVENT_NAMES",
    "NUMERIC",
    "Checks",
    "EventChunk",
    "EventFile",
    "Mask",
    "joined_cells",
    "judge_events",
    "open_event_file",
    "remedy",
    "whole_numbers",
]
