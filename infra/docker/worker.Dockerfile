# The Prefect server, the workers, `recsys setup` and every other command but the demo, on a CPU.
# `make images` builds it with Docker or buildah. By hand:
#   docker build -f infra/docker/worker.Dockerfile --build-arg COMMIT="$(git rev-parse HEAD)" -t recsys-worker .
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
# The server's image, from which pg_dump comes: a pg_dump refuses a server that is newer than itself.
ARG POSTGRES=docker.io/library/postgres:17.5-bookworm@sha256:fbcea1bd13b6a882cd6caa6b58db3ae5c102efe50ec625b3e2a5cbc50db5bfe4

FROM ${POSTGRES} AS postgres

FROM ${BASE} AS build
# An empty TORCH_INDEX takes torch from the index of pip's own configuration.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# strip_environment.py compiles everything. pip reads PIP_NO_COMPILE the other way round: 0 keeps it from compiling too.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=0
WORKDIR /app
COPY requirements requirements
# torch is installed first, without CUDA. The lock file has the exact version of every package, so nothing has to be resolved. It has
# the extras of commands that run on a worker: serving, tracking, Dask, and studies in PostgreSQL.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} --no-deps "$(grep '^torch==' requirements/worker.txt)" \
    && grep -v '^torch==' requirements/worker.txt > /tmp/worker.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/worker.txt
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e packages/prefect-runpod -e . \
    && python infra/docker/strip_environment.py /opt/venv /app

FROM ${BASE} AS worker
# tini is process 1: it passes signals on and ends with its child, and orphans do not stay as zombies. Backups need redis-cli, GnuPG,
# pg_dump and the libraries that pg_dump loads.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini=0.19.0-1* gpg=2.2.40-1.1* gpg-agent=2.2.40-1.1* libpq5=15.* \
        liblz4-1=1.9.4-1 libzstd1=1.5.4* redis-tools=5:7.0.15-1* \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --home-dir /var/lib/recsys --no-log-init recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
COPY --from=postgres /usr/lib/postgresql/*/bin/pg_dump /usr/lib/postgresql/*/bin/pg_restore /usr/local/bin/
COPY --from=postgres /usr/lib/*-linux-gnu/libpq.so.5 /usr/local/lib/
RUN ldconfig && pg_dump --version && pg_restore --version
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
ARG COMMIT=""
LABEL org.opencontainers.image.title="movielens-recsys worker" org.opencontainers.image.revision="${COMMIT}"
# A process writes only to /var/lib/recsys and /tmp, so the root of the container can be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 RECSYS_COMMIT=${COMMIT} \
    HOME=/var/lib/recsys NUMBA_CACHE_DIR=/var/lib/recsys/numba \
    PREFECT_HOME=/var/lib/recsys/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false
WORKDIR /var/lib/recsys
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "/app/infra/docker/with-secrets"]
CMD ["recsys", "--help"]
