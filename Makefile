# Everyday commands. Every target installs the Python packages that it needs; a second call starts at once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= data
OUT ?= trained
ARGS ?=
# The extra `fast` of pyproject.toml.
FAST := openvino>=2026.1,<2027

# A process a core, one thread each: processes of many threads only wait for each other. pytest-randomly shuffles
# the tests; `make test ARGS="--randomly-seed=N"` repeats an order.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: help run showcase screenshots test test-all test-speeds soak check lint lint-scripts types bench train clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/run-ready  ## open the dashboard on 127.0.0.1:7860 (flags: make run ARGS="--port 8000")
	$(BIN)/python app.py $(ARGS)

showcase: $(VENV)/run-ready  ## make ready for a room with no network, say so, and open the dashboard
	HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 $(BIN)/python app.py --showcase $(ARGS)

screenshots: $(VENV)/dev-ready  ## take the pictures in docs/screenshots anew
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

test: $(VENV)/dev-ready  ## the fast tests, with a browser where there is one
	$(PYTEST) -m "not slow and not network" $(ARGS)

test-all: $(VENV)/dev-ready  ## the fast tests and the long matrix
	$(PYTEST) -m "not network" $(ARGS)

test-speeds: $(VENV)/dev-ready  ## the browser tests on a slow processor, and with a slow captioner
	BROWSER_SLOWDOWN=4 $(PYTEST) -m "not slow and not network" tests/browser $(ARGS)
	FAKE_TOKEN_SECONDS=0.5 $(PYTEST) -m "not slow and not network" tests/browser $(ARGS)

soak: $(VENV)/dev-ready  ## thousands of hostile inputs, and 64 visitors for two minutes
	SOAK=1 $(BIN)/python -m pytest tests/fuzz tests/load --timeout 1800 -s $(ARGS)

check: lint types test  ## style, types, tests

lint: $(VENV)/dev-ready  ## ruff, and ESLint where Node is
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-scripts; \
		elif [ "$$REQUIRE_NODE" = 1 ]; then echo "Node is not installed; install nodejs and npm." >&2; exit 1; fi

lint-scripts: node_modules/ready
	npm run --silent lint

types: $(VENV)/dev-ready  ## mypy, strict
	$(BIN)/mypy

bench: $(VENV)/run-ready  ## speed as a ratio to the plain way; writes docs/bench.md
	$(BIN)/python -m captioning bench --out docs/bench.md $(ARGS)

train: $(VENV)/dev-ready  ## fit the captioner: make train DATA=folder OUT=folder
	$(BIN)/python -m captioning train $(DATA) --out $(OUT) $(ARGS)

clean:  ## remove what the other commands set up
	rm -rf $(VENV) node_modules .pytest_cache .mypy_cache .ruff_cache

$(VENV)/run-ready: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: "$(FAST)" 2>/dev/null \
		|| echo "OpenVINO could not be installed: torch computes everything."
	@touch $@

node_modules/ready: package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

$(VENV)/dev-ready: requirements-dev.txt $(VENV)/run-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
