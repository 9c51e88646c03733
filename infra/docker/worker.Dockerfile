# The Prefect server, the workers and `recsys setup`: the complete product on a CPU.
#   docker build -f infra/docker/worker.Dockerfile --build-arg COMMIT="$(git rev-parse HEAD)" -t recsys-worker .
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/venv
COPY requirements/core.txt requirements/core.txt
# torch is installed first, without CUDA. The lock file has the exact version of every package, so nothing has to be resolved.
RUN /opt/venv/bin/pip install --index-url https://download.pytorch.org/whl/cpu --no-deps "$(grep '^torch==' requirements/core.txt)" \
    && grep -v '^torch==' requirements/core.txt > /tmp/core.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/core.txt
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . \
    && /opt/venv/bin/python -m compileall -q configs flows infra models tasks

FROM python:${PYTHON} AS worker
ARG COMMIT=""
LABEL org.opencontainers.image.title="movielens-recsys worker" org.opencontainers.image.revision="${COMMIT}"
RUN groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --create-home recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 RECSYS_COMMIT=${COMMIT} \
    PREFECT_HOME=/var/lib/recsys/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false
WORKDIR /var/lib/recsys
USER 10001:10001
ENTRYPOINT ["/app/infra/docker/with-secrets"]
CMD ["recsys", "--help"]
