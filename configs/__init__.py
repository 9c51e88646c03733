"""Settings: pydantic models, the YAML files that depart from their defaults, and the errors a user can mend."""
