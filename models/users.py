"""User attributes from MovieLens, encoded as integers: gender, age group and occupation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import TrainingError
from models.recommender import IntArray

__all__ = ["TRAITS", "UserTraits"]

TRAITS = ("gender", "age", "occupation")
AGE_GROUPS = (1, 18, 25, 35, 45, 50, 56)
"""Lower bound of each ML-1M age group. ML-1M has only these groups; exact ages (ML-100K) are mapped to them."""


@dataclass(frozen=True, eq=False)
class UserTraits:
    """One integer code per user and trait.

    Code 0 means unknown. A user who is not in the table has code 0 for every trait.
    """

    user_ids: IntArray  # (U,) ascending
    codes: IntArray  # (U, traits)
    values: tuple[tuple[str, ...], ...]  # for each trait: the values of codes 1, 2, ...

    @classmethod
    def of(cls, users: pd.DataFrame) -> UserTraits:
        """Encode the traits in a users table.

        The table has one row per user: user_id and any of gender, age and occupation.

        Raises:
            TrainingError: if no user has a value for any of them.
        """
        users = users.sort_values("user_id")
        columns, values = [], []
        for trait in TRAITS:
            text = _as_text(trait, users)
            known = sorted(set(text.dropna()))
            columns.append(text.map({value: code for code, value in enumerate(known, start=1)}).fillna(0).to_numpy(np.int64))
            values.append(tuple(known))
        if not any(values):
            raise TrainingError(
                "The setting user_features is on, but the dataset has no gender, age or occupation for any user. Only ml-100k "
                "and ml-1m have them; later releases do not. Set models.ss4rec.user_features to false."
            )
        return cls(users["user_id"].to_numpy(np.int64), np.stack(columns, axis=1), tuple(values))

    @property
    def sizes(self) -> list[int]:
        """The number of values of each trait, excluding unknown."""
        return [len(values) for values in self.values]

    def of_users(self, user_ids: IntArray) -> IntArray:
        """Return the codes (R, traits) of these users, in the given order. A user may appear several times."""
        row = np.minimum(np.searchsorted(self.user_ids, user_ids), len(self.user_ids) - 1)
        return np.where((self.user_ids[row] == user_ids)[:, None], self.codes[row], 0)

    def save(self, path: Path) -> None:
        """Write a Parquet table with the values as text, and null where a value is unknown."""
        columns = {
            trait: pd.array([(None, *values)[code] for code in codes], dtype="string")
            for trait, values, codes in zip(TRAITS, self.values, self.codes.T, strict=True)
        }
        pd.DataFrame({"user_id": self.user_ids, **columns}).to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> UserTraits:
        """Load the table that `save` wrote."""
        return cls.of(pd.read_parquet(path))


def _as_text(trait: str, users: pd.DataFrame) -> pd.Series[str]:
    if trait not in users:
        return pd.Series(pd.NA, index=users.index, dtype="string")
    if trait != "age" or users[trait].dtype == "string":
        return users[trait].astype("string")
    age = users[trait].astype("Float64")
    groups = np.searchsorted(AGE_GROUPS, age.fillna(0).to_numpy(np.float64), side="right") - 1
    text = pd.Series([f"{AGE_GROUPS[group]:02d}" for group in groups], index=users.index, dtype="string")
    return text.where(age.notna() & (age >= AGE_GROUPS[0]))
