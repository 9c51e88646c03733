"""The evaluation protocol, full ranking, metrics, and their statistics."""
