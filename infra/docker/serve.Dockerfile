# `recsys serve` and `recsys demo`, as three targets. No image contains Prefect, RecBole, Evidently or CUDA.
#   api         serves every kind with a serving form of its own (SS4Rec, NCF, popularity), without torch
#   api-torch   serves every kind but those of RecBole: the others run the model's own forward pass
#   demo        explains answers with the model's own forward pass, so it has torch
# `make images` builds them with Docker or buildah. By hand:
#   docker build -f infra/docker/serve.Dockerfile --target api -t recsys-serve .
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1

FROM ${BASE} AS packages
# An empty TORCH_INDEX takes torch from the index of pip's own configuration.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# strip_environment.py compiles everything. pip reads PIP_NO_COMPILE the other way round: 0 keeps it from compiling too.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=0
WORKDIR /app
COPY requirements requirements
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-deps -r requirements/serve.txt

FROM packages AS packages-torch
RUN /opt/venv/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} --no-deps "$(grep '^torch==' requirements/serve-torch.txt)" \
    && grep -v '^torch==' requirements/serve-torch.txt > /tmp/serve-torch.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/serve-torch.txt

FROM packages-torch AS packages-demo
RUN grep -v '^torch==' requirements/demo.txt > /tmp/demo.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/demo.txt

FROM packages AS build
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . && python infra/docker/strip_environment.py /opt/venv /app

FROM packages-torch AS build-torch
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . && python infra/docker/strip_environment.py /opt/venv /app

FROM packages-demo AS build-demo
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . && python infra/docker/strip_environment.py /opt/venv /app

FROM ${BASE} AS base
# tini is process 1: it passes signals on and ends with its child, and orphans do not stay as zombies.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini=0.19.0-1* \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --home-dir /var/lib/recsys --no-log-init recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
ARG COMMIT=""
LABEL org.opencontainers.image.revision="${COMMIT}"
# A process writes only to /var/lib/recsys and /tmp, so the root of the container can be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 HOME=/var/lib/recsys \
    NUMBA_CACHE_DIR=/var/lib/recsys/numba
WORKDIR /var/lib/recsys
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "/app/infra/docker/with-secrets"]

FROM base AS demo
LABEL org.opencontainers.image.title="movielens-recsys demo"
COPY --from=build-demo /opt/venv /opt/venv
COPY --from=build-demo --chown=root:root /app /app
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["recsys", "demo", "--set", "host=0.0.0.0"]

FROM base AS api-base
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["recsys", "serve", "--set", "host=0.0.0.0"]

FROM api-base AS api-torch
LABEL org.opencontainers.image.title="movielens-recsys serve, with torch"
COPY --from=build-torch /opt/venv /opt/venv
COPY --from=build-torch --chown=root:root /app /app

FROM api-base AS api
LABEL org.opencontainers.image.title="movielens-recsys serve"
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
