from .columns import NUMERIC, OTHER_NAMES, find_columns
from .file import EventFile
from .files import head_of_file, open_event_file
from .first_rows import Head, looks_like_text
from .ids import TextIds, read_ids, trimmed
from .judging import Judged, judge_events, texts_of
from .reading import SETTING_OF, EventReading, RowRules, id_types_given, reading_of
from .remedies import remedy
from .row_checks import Checks, Mask, joined_cells, whole_numbers
from .text import EventChunk
from .times_of_rows import row_times

__all__ = [
    "NUMERIC",
    "OTHER_NAMES",
    "SETTING_OF",
    "Checks",
    "EventChunk",
    "EventFile",
    "EventReading",
    "Head",
    "Judged",
    "Mask",
    "RowRules",
    "TextIds",
    "find_columns",
    "head_of_file",
    "id_types_given",
    "joined_cells",
    "judge_events",
    "looks_like_text",
    "open_event_file",
    "read_ids",
    "reading_of",
    "remedy",
    "row_times",
    "texts_of",
    "trimmed",
    "whole_numbers",
]
