"""The state of users: their events and the state of each model, in Redis, in memory, or in both."""
