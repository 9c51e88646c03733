"""Landed files: the events in a landing zone extend a dataset by a new version."""
