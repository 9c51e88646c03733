"""What each table of a dataset holds, as pandera models."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from models.columns import Columns
from tasks.tables.properties import DatasetProperties

__all__ = ["MILLISECONDS_FROM", "AcceptedModel", "InteractionModel", "ItemModel", "UserModel", "interaction_model"]

MILLISECONDS_FROM = 100_000_000_000  # in seconds, this is the year 5138


class AcceptedModel(pa.DataFrameModel):
    """Accepted events. `row` is the position in the source, which only RecBole's tie order uses."""

    user: Series[np.int64] = pa.Field(alias=Columns.USER, ge=0)
    item: Series[np.int64] = pa.Field(alias=Columns.ITEM, ge=0)
    rating: Series[np.float64] = pa.Field(alias=Columns.RATING, nullable=False)
    time: Series[np.int64] = pa.Field(alias=Columns.TIME, ge=0, lt=MILLISECONDS_FROM)
    row: Series[np.int64] = pa.Field(alias=Columns.ROW, ge=0)
    weight: Optional[Series[np.float64]] = pa.Field(alias=Columns.WEIGHT, gt=0, nullable=False)  # noqa: UP045 - pandera's convention

    class Config:
        strict = True


class InteractionModel(AcceptedModel):
    """The events of one dataset version."""

    row: Series[np.int64] = pa.Field(alias=Columns.ROW, ge=0, unique=True)

    class Config:
        strict = True
        unique = [Columns.USER, Columns.ITEM]  # noqa: RUF012 - pandera's convention


class RepeatedModel(InteractionModel):
    """The events of one dataset version that keeps repeats."""

    class Config:
        strict = True
        unique = list(Columns.HAPPENED)  # noqa: RUF012


def interaction_model(properties: DatasetProperties) -> type[InteractionModel]:
    """Return the model of the events of a dataset with these properties."""
    return RepeatedModel if properties.keeps_repeats else InteractionModel


class ItemModel(pa.DataFrameModel):
    """Items. An empty title marks an item that has events but no description. Attributes may follow."""

    item: Series[np.int64] = pa.Field(alias=Columns.ITEM, ge=0, unique=True)
    title: Series[pd.StringDtype] = pa.Field(alias=Columns.TITLE, nullable=False)
    year: Series[pd.Int64Dtype] = pa.Field(alias=Columns.YEAR, ge=1870, le=2100, nullable=True)
    genres: Series[pd.StringDtype] = pa.Field(alias=Columns.GENRES, nullable=False)


class UserModel(pa.DataFrameModel):
    """Users. Values that the source does not provide are missing. Attributes may follow."""

    user: Series[np.int64] = pa.Field(alias=Columns.USER, ge=0, unique=True)
    gender: Series[pd.StringDtype] = pa.Field(alias=Columns.GENDER, nullable=True)
    age: Series[pd.Int64Dtype] = pa.Field(alias=Columns.AGE, ge=0, le=150, nullable=True)
    occupation: Series[pd.StringDtype] = pa.Field(alias=Columns.OCCUPATION, nullable=True)
    zip_code: Series[pd.StringDtype] = pa.Field(alias=Columns.ZIP_CODE, nullable=True)
