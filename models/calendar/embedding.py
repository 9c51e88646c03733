"""A learnt vector for the hour of the day, and one for the weekday."""

from __future__ import annotations

import torch
from torch import nn

from models.calendar.hours import DAYS, FIRST_DAY, HOURS

__all__ = ["CalendarEmbedding"]

STD = 0.02


class CalendarEmbedding(nn.Module):
    """The sum of the vectors of the hour and the weekday of a moment, in UTC."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hours, self.days = nn.Embedding(HOURS, width), nn.Embedding(DAYS, width)
        for table in (self.hours, self.days):
            nn.init.normal_(table.weight, std=STD)

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        """Return the vectors (..., width) of moments in int64 UTC seconds (...)."""
        hours = torch.div(times, 3600, rounding_mode="floor") + FIRST_DAY * HOURS
        days = torch.div(hours, HOURS, rounding_mode="floor") % DAYS
        found: torch.Tensor = self.hours(hours % HOURS) + self.days(days)
        return found
