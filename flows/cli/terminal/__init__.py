"""What a command says while it works: the story of its stages, the time left, and as much of the logs as was asked for.

- `display` draws on a terminal, or writes lines into a pipe or a log file.
- `story` takes the log records of a run, and passes on what a person wants to know.
- `verbosity` adds --quiet and --verbose to every command.

Results go to stdout, and everything here goes to stderr.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
