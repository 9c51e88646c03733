# The image of a rented pod: CUDA, torch, and mamba-ssm and causal-conv1d compiled for the GPU generations that can be rented.
#   docker build -f infra/docker/train.Dockerfile --build-arg COMMIT="$(git rev-parse HEAD)" -t recsys-train .
# A pod compares COMMIT with the commit of the worker's code, and refuses a run of another one.
# Compiling the two packages takes an hour on 8 cores. JOBS limits the parallel jobs, which need about 4 GB of memory each.
ARG PYTHON=3.11.13-slim-bookworm
ARG CUDA=13.0.1-devel-ubuntu22.04

FROM nvidia/cuda:${CUDA} AS cuda

FROM python:${PYTHON} AS build
ARG TORCH=2.11.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG JOBS=4
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/venv
COPY requirements/core.txt requirements/core.txt
# torch brings the CUDA libraries as packages, so the last stage does not need a CUDA image.
RUN /opt/venv/bin/pip install --extra-index-url "${TORCH_INDEX}" "torch==${TORCH}"
RUN grep -v '^torch==' requirements/core.txt > /tmp/core.txt \
    && /opt/venv/bin/pip install --no-deps -r /tmp/core.txt
COPY --from=cuda /usr/local/cuda-13.0 /usr/local/cuda
# In this order: A100; RTX A6000 and A40; L4, L40 and RTX 4090; H100 and H200; B200; RTX 5090. PTX supports later generations.
ENV CUDA_HOME=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH MAX_JOBS=${JOBS} \
    TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;10.0;12.0+PTX" \
    MAMBA_FORCE_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++=4:12.2.0-3 git=1:2.39.* \
    && rm -rf /var/lib/apt/lists/* \
    && /opt/venv/bin/pip install ninja==1.13.0 wheel==0.45.1 \
    && /opt/venv/bin/pip install --no-deps --no-build-isolation causal-conv1d==1.7.0 mamba-ssm==2.3.2.post1
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e .

FROM python:${PYTHON} AS train
ARG COMMIT=""
LABEL org.opencontainers.image.title="movielens-recsys train" org.opencontainers.image.revision="${COMMIT}"
# Triton uses the C compiler to build a launcher for each kernel when the kernel first runs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc=4:12.2.0-3 libc6-dev=2.36-* \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --create-home recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RECSYS_COMMIT=${COMMIT} \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PREFECT_HOME=/var/lib/recsys/prefect TRITON_CACHE_DIR=/var/lib/recsys/triton
WORKDIR /var/lib/recsys
USER 10001:10001
CMD ["prefect", "flow-run", "execute"]
