# `recsys serve` and `recsys demo`, as two targets. The images contain no Prefect, RecBole, Evidently or CUDA.
#   docker build -f infra/docker/serve.Dockerfile --target api -t recsys-serve .
#   docker build -f infra/docker/serve.Dockerfile --target demo -t recsys-demo .
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/venv
COPY requirements requirements
# The names are here, the versions in the lock file. torch comes without CUDA. numba runs the compiled recurrences.
RUN /opt/venv/bin/pip install --index-url https://download.pytorch.org/whl/cpu --no-deps "$(grep '^torch==' requirements/core.txt)" \
    && grep -v '^torch==' requirements/dev.txt > /tmp/lock.txt \
    && /opt/venv/bin/pip install -c /tmp/lock.txt filelock fsspec jinja2 networkx sympy typing-extensions \
    boto3 fastapi fastapi-swagger hiredis httptools httpx numba numpy pandas prometheus-client pyarrow pydantic pyyaml redis rich safetensors \
    scipy typer uvicorn uvloop
COPY . .
RUN /opt/venv/bin/pip install -c /tmp/lock.txt setuptools \
    && /opt/venv/bin/pip install --no-deps --no-build-isolation -e . \
    && /opt/venv/bin/python -m compileall -q configs flows infra models serving tasks

FROM build AS build-demo
RUN /opt/venv/bin/pip install -c /tmp/lock.txt streamlit matplotlib

FROM python:${PYTHON} AS base
ARG COMMIT=""
LABEL org.opencontainers.image.revision="${COMMIT}"
RUN groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --create-home recsys \
    && install -d -o recsys -g recsys /var/lib/recsys
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 NUMBA_CACHE_DIR=/var/lib/recsys/numba
WORKDIR /var/lib/recsys
USER 10001:10001
ENTRYPOINT ["/app/infra/docker/with-secrets"]

FROM base AS demo
LABEL org.opencontainers.image.title="movielens-recsys demo"
COPY --from=build-demo /opt/venv /opt/venv
COPY --from=build-demo --chown=root:root /app /app
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["recsys", "demo", "--set", "host=0.0.0.0"]

FROM base AS api
LABEL org.opencontainers.image.title="movielens-recsys serve"
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=root:root /app /app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["recsys", "serve", "--set", "host=0.0.0.0"]
