#!/bin/sh -e
# Resolves pyproject.toml into requirements/{core,dev,worker}.txt, and requirements/{serve,serve-torch,demo}.in into .txt files. Needs
# uv; keeps present pins unless UPGRADE=1.
# torch brings its own CUDA wheels where they are wanted, so the lock names torch but none of its nvidia packages.
cd "$(dirname "$0")/.."
cuda=$(uv pip compile -q pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --override requirements/overrides.txt --no-annotate --no-header |
    sed -n 's/^\(nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*\|triton\)==.*/--no-emit-package \1/p')
# packages/prefect-runpod is installed from this repository, beside the project itself.
cuda="$cuda --no-emit-package prefect-runpod"
lock() { # lock SET INPUT...
    set=$1
    shift
    uv pip compile -q ${UPGRADE:+--upgrade} "$@" --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --override requirements/overrides.txt $cuda \
        ${CONSTRAINTS:+-c "$CONSTRAINTS"} \
        --no-annotate --custom-compile-command "sh requirements/lock.sh" -o "requirements/$set.txt"
}
product="--extra serving --extra postgres --extra tracking --extra dask --extra tracing --extra lineage"
lock core pyproject.toml
lock dev pyproject.toml $product --extra dev --extra demo --extra peers
# The images have the versions that the tests had.
CONSTRAINTS=requirements/dev.txt
lock worker pyproject.toml $product
lock serve requirements/serve.in
lock serve-torch requirements/serve-torch.in
lock demo requirements/demo.in
