"""A web demo: what is recommended and why, what the pipeline decided, and what experiments have shown."""
