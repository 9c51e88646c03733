"""The engine that answers recommendation requests in batches, and what it holds of a model version."""
