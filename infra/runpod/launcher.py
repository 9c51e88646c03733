"""The program that runs inside a pod of this project: the launcher of `prefect-runpod`, with this project's names.

python -m infra.runpod.launcher -- prefect flow-run execute
"""

from __future__ import annotations

import os
import sys

from prefect_runpod.launcher import command_in, main

__all__ = ["main"]

if __name__ == "__main__":
    main(command_in(sys.argv[1:]), os.environ)
