"""Settings models, the YAML files that override their defaults, and the errors that a user can fix."""
