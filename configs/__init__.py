"""Settings, and what every other package needs of them: loading YAML files, hiding secrets, and the errors that a user can fix.

The YAML files in this folder hold the settings of one dataset or environment that differ from the defaults. This package imports
no other package of the project, and it neither reads data nor talks to a server.
"""
