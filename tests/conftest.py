from __future__ import annotations

import os

# Several test processes on few cores: OpenMP threads that wait for each other would take longer than the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
