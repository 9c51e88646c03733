"""The stages of a run: plain functions, and in `stages` the Prefect tasks round them."""
