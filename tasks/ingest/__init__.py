"""From source files to clean tables: reading, validation and features of a release or of event files."""
