"""The settings of the API and the demo, and the files of business rules and experiments."""
