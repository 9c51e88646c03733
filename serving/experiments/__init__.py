"""A/B experiments: assignment, the exposure log, and the report with its validity checks."""
