"""The training of candidates, in this process or in one of its own, and their handoff between machines."""
