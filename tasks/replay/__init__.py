"""Replay: months of scheduled retraining on past events, under several policies."""
