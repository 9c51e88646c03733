# The image of a rented pod: CUDA, torch, and the wheels of kernels.Dockerfile.
#   docker build -f infra/docker/train.Dockerfile --build-arg COMMIT="$(git rev-parse HEAD)" -t recsys-train .
# A pod compares COMMIT with the commit of the worker's code, and refuses a run of another one.
# `python -m infra.images build recsys-train --cpu` builds it for the CPU: another TORCH and TORCH_INDEX, and no wheels in KERNELS.
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
ARG KERNELS=recsys-kernels:latest

# hadolint ignore=DL3006
FROM ${KERNELS} AS kernels

FROM ${BASE} AS build
ARG TORCH=2.11.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
# strip_environment.py compiles everything. pip reads PIP_NO_COMPILE the other way round: 0 keeps it from compiling too.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=0
WORKDIR /app
COPY requirements requirements
# torch brings the CUDA libraries as packages, so no stage needs a CUDA image.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} "torch==${TORCH}" \
    && grep -v '^torch==' requirements/core.txt > /tmp/core.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/core.txt
COPY --from=kernels /wheels /wheels
RUN find /wheels -name '*.whl' -exec /opt/venv/bin/pip install --no-deps {} +
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e packages/prefect-runpod -e . \
    && python infra/docker/strip_environment.py /opt/venv /app

FROM ${BASE} AS train
# Triton uses the C compiler to build a launcher for each kernel when the kernel first runs. tini is process 1.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc=4:12.2.0-3 libc6-dev=2.36-* tini=0.19.0-1* \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --home-dir /var/lib/recsys --no-log-init recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
ARG COMMIT=""
LABEL org.opencontainers.image.title="movielens-recsys train" org.opencontainers.image.revision="${COMMIT}"
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RECSYS_COMMIT=${COMMIT} HOME=/var/lib/recsys \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility NUMBA_CACHE_DIR=/var/lib/recsys/numba \
    PREFECT_HOME=/var/lib/recsys/prefect TRITON_CACHE_DIR=/var/lib/recsys/triton
WORKDIR /var/lib/recsys
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["prefect", "flow-run", "execute"]
