"""The settings of searches, comparisons and replays."""
