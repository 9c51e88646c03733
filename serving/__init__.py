"""Serves recommendations over HTTP from the registry's champion. Does not depend on training, Prefect, RecBole or Evidently."""
