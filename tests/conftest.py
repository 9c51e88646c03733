from __future__ import annotations

import os
import signal

from hypothesis import settings

pytest_plugins = ["tests.schedule"]

# Several test processes share few cores, so OpenMP threads that wait for each other would take longer than the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell makes its background processes ignore SIGINT and SIGQUIT, and their children inherit that. Prefect's worker ends on SIGTERM by
# sending itself a SIGINT, and tests end processes with both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# The first example of a test may import scipy or compile a kernel, and the machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
