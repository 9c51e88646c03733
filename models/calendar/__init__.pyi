from .embedding import CalendarEmbedding
from .hours import DAYS, HOURS, hours_of_week

__all__ = ["DAYS", "HOURS", "CalendarEmbedding", "hours_of_week"]
