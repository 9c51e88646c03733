"""Names of the files in a version that training writes and serving reads."""

from __future__ import annotations

__all__ = ["CATALOGUE_FILE", "SAMPLE_FILE"]

CATALOGUE_FILE = "catalogue.parquet"
SAMPLE_FILE = "sample_requests.json"
