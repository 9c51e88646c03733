"""Recommendations over HTTP from the registry's champion. Nothing here knows of training, Prefect, RecBole or Evidently."""
