# Plain `make` lists the targets. Everything is installed into .venv; nothing outside this folder changes.

# The interpreter that makes .venv: the first of these that is Python 3.11 or newer. `make PYTHON=… run` picks another.
PYTHON ?= python3 python3.11 python3.12 python3.13 python3.14
# More words for pip, such as PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for torch without CUDA.
PIP_ARGS ?=
# More words for pytest, such as ARGS="-k workspace -x". Without any, all tests run in several processes; with some,
# in one, which starts sooner and can hold a debugger. ARGS='$(WORKERS) -m "not slow"' asks for several again.
ARGS ?=
# A process for each core, four at most, for each takes up to 2 GB. One that has run out of tests takes half of what
# another has left, so tests of one file, which share its checkpoints, mostly stay together.
WORKERS ?= -n logical --maxprocesses 4 --dist worksteal

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The build backend comes from constraints.txt too, hence no isolated build with unpinned tools in it.
# pip would compile every module of every library, on one core: Python compiles what it imports when it first does,
# and `make dev`, whose tests start many processes, compiles the rest on all cores.
INSTALL = $(PIP) install $(PIP_ARGS) --no-compile -c constraints.txt hatchling editables && \
          $(PIP) install $(PIP_ARGS) --no-compile -c constraints.txt --no-build-isolation

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check format dev weights clean

help:
	@echo "unroller: make <target>"
	@sed -n 's/^\([a-z]*\):.*## /  \1 /p' $(firstword $(MAKEFILE_LIST)) | awk '{ n = $$1; $$1 = ""; printf "  %-8s%s\n", n, $$0 }'

run: .venv/.installed-run  ## install what is needed, then unroll a camera's motion and a spatial question about pictures of rooms
	@$(BIN)/unroller run --task pose --problem rooms:3 \
	    --calls camera_pose_estimate,describe_motion,depth_estimate,novel_view_synthesis
	@$(BIN)/unroller run --task spatial --problem rooms:2 --problem-option hops=3 \
	    --calls camera_pose_estimate,novel_view_synthesis:sides,text_think

test: .venv/.installed-dev  ## install the development tools and run the tests (ARGS="-k name" for some)
	@$(BIN)/pytest $(or $(strip $(ARGS)),$(WORKERS))

check: .venv/.installed-dev  ## lint (ruff), types (pyright), who imports whom (import-linter)
	@status=0; \
	echo "ruff";         $(BIN)/ruff check --output-format concise || status=1; \
	echo "pyright";      PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright || status=1; \
	echo "import-linter"; $(BIN)/lint-imports --no-logo || status=1; \
	exit $$status

format: .venv/.installed-dev  ## sort imports, mend what ruff can mend, format
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

weights: .venv/.installed-run  ## train the embedded model from scratch (about an hour and a half on one core) and measure it
	@$(BIN)/python -m nano_omni.training.run --config cpu --seed 0 --out runs/weights
	@$(BIN)/python -m nano_omni.familiarity --weights runs/weights/weights
	@$(BIN)/python -m nano_omni.evaluation --weights runs/weights/weights --n 3000
	@echo "They are in runs/weights/weights; nano_omni/weights/cpu is where the shipped ones lie."

dev: .venv/.installed-dev  ## install the project and its development tools into .venv

clean:  ## remove .venv, caches and builds
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ── Stamps: a second `make run` installs nothing, an edit of pyproject.toml or constraints.txt installs again. ──

# A .venv that is there already is kept if it can be used.
.venv/.made:
	@if .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then exit 0; fi; \
	for p in $(PYTHON); do \
	    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "unroller needs Python 3.11 or newer; tried: $(PYTHON)." >&2; \
	    echo "Install one (Debian 12+, Ubuntu 24.04+: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11 run" >&2; \
	    exit 1; \
	fi; \
	if ! $$found -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$found cannot make a virtual environment: its modules venv and ensurepip are missing." >&2; \
	    echo "On Debian or Ubuntu: apt install python3-venv" >&2; \
	    exit 1; \
	fi; \
	echo "Making .venv with $$($$found --version)"; \
	$$found -m venv .venv
	@touch $@

.venv/.installed-run: .venv/.made pyproject.toml constraints.txt
	@echo "Installing unroller into .venv (the first time this takes a few minutes; torch is most of it)"
	@$(INSTALL) -e '.[vision]'
	@touch $@

.venv/.installed-dev: .venv/.made pyproject.toml constraints.txt
	@echo "Installing unroller and its development tools into .venv (the first time this takes a few minutes; torch is most of it)"
	@$(INSTALL) -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch .venv/.installed-run $@
