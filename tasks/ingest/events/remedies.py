"""What to do about the faults of rows: the setting that mends them, or the change of the file."""

from __future__ import annotations

from models.columns import Columns
from tasks.ingest.events.ids import LONGEST_ID

__all__ = ["LARGEST", "remedy"]

LARGEST = 2**63 - 1
"""The largest id and time."""
NO_TIME = "set data.timestamp_format to how they are written: s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M"
NO_NUMBER = f"set data.id_type.{{}} to text if these are ids; whole numbers go from 0 to {LARGEST}"
ROW_TIME = "write UTC seconds, such as 1700000000, or ISO 8601, such as 2024-01-31T12:00:00Z"
REMEDIES = (  # the first whose text occurs in the reason
    (f"{Columns.UPDATED_AT} is not", ROW_TIME),
    (f"{Columns.UPDATED_AT} does not match", f"correct data.timestamp_format, or {ROW_TIME}"),
    (f"{Columns.UPDATED_AT} has no time zone", "add a zone to each, or set data.timezone to theirs, for example to UTC"),
    (f"{Columns.UPDATED_AT} is in ", "write all of a file in one unit"),
    (f"{Columns.TIME} is not a number", NO_TIME),
    (f"{Columns.TIME} is not an ISO", NO_TIME),
    (f"{Columns.TIME} does not match", "correct data.timestamp_format, or the times"),
    (f"{Columns.TIME} has no time zone", "set data.timezone to the zone of these times, for example to UTC"),
    (f"{Columns.RATING} is not a number", "write ratings with a decimal point, for example 3.5"),
    (f"{Columns.RATING} is missing", "fill it or remove the rows; if events have no rating, set data.feedback to implicit"),
    (f"{Columns.RATING} is outside", "set validation.min_rating and validation.max_rating to the range of your ratings"),
    (f"{Columns.WEIGHT} is a kind", "add each kind of event to data.weights; the weight 0 leaves its events out"),
    (f"{Columns.WEIGHT} is not a number", "name the kinds of events in data.weights, or write numbers"),
    (f"{Columns.USER} is not a number", NO_NUMBER.format("user")),
    (f"{Columns.ITEM} is not a number", NO_NUMBER.format("item")),
    (f"{Columns.USER} is too large", f"the largest is {LARGEST}; set data.id_type.user to text for longer ones"),
    (f"{Columns.ITEM} is too large", f"the largest is {LARGEST}; set data.id_type.item to text for longer ones"),
    ("is not a number", "write it as a number"),
    ("is missing", "fill the cells, or remove the rows"),
    ("is in milliseconds", "divide it by 1,000, or set data.timestamp_format to ms if all times are written so"),
    ("is in microseconds", "divide it by 1,000,000, or set data.timestamp_format to us if all times are written so"),
    ("is in nanoseconds", "divide it by 1,000,000,000, or set data.timestamp_format to ns if all times are written so"),
    ("is in seconds", "write all times in one unit, or set data.timestamp_format to s if all are written so"),
    ("lies before", "lower validation.earliest if the times are right"),
    ("lies in the future", "correct the clock that wrote them, or raise validation.max_future_s"),
    ("scientific notation", "write all digits: options(scipen = 999) in R, astype('int64') in pandas, the format 0 in Excel"),
    ("decimal number", "write it as a whole number, without a decimal point; in a Parquet file, as int64"),
    ("is not a whole number", "write it without a fraction"),
    ("is too large", f"the largest is {LARGEST}"),
    ("is negative", "the smallest is 0"),
    ("is longer than", f"shorten the ids to {LONGEST_ID} bytes, for example to a digest of them"),
    ("control character", "remove tabs, line ends and other control characters from the ids"),
    ("not UTF-8", "save the file as UTF-8; in a Parquet file, write the column as text"),
    ("the number of another id", "rename one of the two ids; this happens to one in 200,000 datasets of ten million ids"),
    ("cell", "give each row one cell for each column, and quote cells that contain the separator"),
)


def remedy(reason: str) -> str:
    """Return what to do about a fault, as a part of a sentence, or an empty text."""
    return next((text for part, text in REMEDIES if part in reason), "")
