#!/bin/sh -e
# Resolves pyproject.toml into requirements/{core,dev}.txt. Needs uv; keeps present pins unless UPGRADE=1.
# torch brings its own CUDA wheels where they are wanted, so the lock names torch but none of its nvidia packages.
cd "$(dirname "$0")/.."
cuda=$(uv pip compile -q pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --override requirements/overrides.txt --no-annotate --no-header |
    sed -n 's/^\(nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*\|triton\)==.*/--no-emit-package \1/p')
for set in core dev; do
    [ "$set" = dev ] && extra="--extra dev --extra serving --extra demo --extra postgres --extra tracking --extra dask --extra peers" || extra=
    uv pip compile -q ${UPGRADE:+--upgrade} pyproject.toml $extra --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --override requirements/overrides.txt $cuda \
        ${CONSTRAINTS:+-c "$CONSTRAINTS"} \
        --no-annotate --custom-compile-command "sh requirements/lock.sh" -o "requirements/$set.txt"
done
