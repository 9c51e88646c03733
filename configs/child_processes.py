"""The environment of child processes: what they need, by name, and no secret of the process that starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from configs.redaction import secrets_of

__all__ = ["NETWORK", "STORE", "child_environment"]

NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "TERM", "COLUMNS"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "CC", "CXX", "DO_NOT_TRACK", "RECSYS_COMMIT"),
    }
)
"""Variables that every child gets: of the machine, its language, and its libraries."""
BEGINNINGS = (
    *("LC_", "PYTHON", "XDG_", "COVERAGE_", "MPL", "HF_"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "NUMEXPR_", "KMP_", "GOMP_", "MALLOC_"),
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_"),
)
"""Beginnings of the names of others that every child gets: of Python, threads, and CUDA."""
PLUGINS = "RECSYS_PLUGIN_VARIABLES"
"""The variable that names others, with commas between them, for a team's own kinds of models."""
NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""What a child needs that talks to a server on the network."""
STORE = (*NETWORK, "AWS_*")
"""What a child needs that reads or writes a store on S3. The end `*` stands for any end of the name."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def child_environment(
    needs: Iterable[str] = (),
    *,
    threads: int | None = None,
    paths: Iterable[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of a child process, for `env` of `subprocess`.

    Args:
        needs: Names of other variables that the child needs, such as `STORE`. `AWS_*` stands for all that begin with `AWS_`. Only
            these may hold a secret.
        threads: Number of threads that numerical libraries may use in the child. None: as in this process.
        paths: Folders in which the child finds modules. None: as in this process. In either case, it does not look for any in its
            working folder.
        environment: Of this process, if it is not `os.environ`.
    """
    given = os.environ if environment is None else environment
    exact = {name for name in needs if not name.endswith("*")}
    beginnings = tuple(name[:-1] for name in needs if name.endswith("*"))
    wanted = {name.strip() for name in given.get(PLUGINS, "").split(",")} - {""}
    found = {
        name: value
        for name, value in given.items()
        if name in exact | wanted
        or (beginnings and name.startswith(beginnings))
        or ((name in NAMES or name.startswith(BEGINNINGS)) and not secrets_of({name: value}))
    }
    if threads is not None:
        found |= dict.fromkeys(THREADS, str(threads))
    found["PYTHONPATH"] = os.pathsep.join(path for path in (sys.path if paths is None else paths) if path)
    found["PYTHONSAFEPATH"] = "1"
    return found
