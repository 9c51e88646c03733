# Wheels of mamba-ssm and causal-conv1d, compiled for the GPU generations that can be rented. train.Dockerfile takes them from here, so
# that a change of the product's code does not compile them again. Compiling takes an hour on 8 cores. JOBS limits the parallel jobs,
# which need about 4 GB of memory each.
#   docker build -f infra/docker/kernels.Dockerfile -t recsys-kernels .
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
ARG CUDA=docker.io/nvidia/cuda:13.0.1-devel-ubuntu22.04@sha256:bb3de902bc1b522231cffea98a4d25a16ddb9fc8685a958b48d83036f46fd0c2

FROM ${CUDA} AS cuda

FROM ${BASE} AS build
ARG TORCH=2.11.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG JOBS=4
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --extra-index-url "${TORCH_INDEX}" "torch==${TORCH}" ninja==1.13.0 wheel==0.45.1 setuptools==84.2.1 einops==0.8.2
COPY --from=cuda /usr/local/cuda-13.0 /usr/local/cuda
# In this order: A100; RTX A6000 and A40; L4, L40 and RTX 4090; H100 and H200; B200; RTX 5090. PTX supports later generations.
ENV CUDA_HOME=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH MAX_JOBS=${JOBS} \
    TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;10.0;12.0+PTX" \
    MAMBA_FORCE_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++=4:12.2.0-3 git=1:2.39.* \
    && rm -rf /var/lib/apt/lists/* \
    && /opt/venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels causal-conv1d==1.7.0 mamba-ssm==2.3.2.post1

FROM scratch AS kernels
COPY --from=build /wheels /wheels
