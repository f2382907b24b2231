# Two commands:
#   make demo   on a fresh machine: environment, install, a small adapter library, its inspection, the web pages
#   make test   linters, types and tests, with independent implementations as oracles where they install

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo-library
# `make test ORACLES=no` skips torch, PEFT and LyCORIS; the tests that need them then say so and skip.
ORACLES ?= yes
# Pinned and installed first and alone: PEFT and LyCORIS must find this torch and not bring another.
TORCH = torch==2.13.0

# `make demo DEMO_SERVE=no` ends without serving; so does one that nobody watches.
DEMO_SERVE ?= $(shell test -t 0 && test -t 1 && echo yes || echo no)
# `make test BROWSER=no` skips the tests in Chromium, and does not try to install it.
BROWSER ?= yes

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo test ui ui-test chromium lint format pictures benchmark bench soak clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       install into $(VENV), write $(DEMO)/, show what is in it and serve it with the web pages"
	@echo "make test       linters, types and tests; the web pages too, in Chromium, where Node is there"
	@echo "make ui         build the web pages into dist/"
	@echo "make lint       linters and types only"
	@echo "make format     rewrite the sources in the project's format"
	@echo "make pictures   draw docs/images/ again from a real run"
	@echo "make benchmark  time 'lora inspect' on 1,000 adapters and on a 1 GB one"
	@echo "make bench      time resizing and merging on adapters of full size (about 2.5 GB in the temporary folder)"
	@echo "make soak       kill every writer at 250 random moments, the server at 100; load it with 50 clients"
	@echo "make clean      remove $(VENV) and $(DEMO)"

# -- installed parts, one stamp each, so that a second run starts at once ----------------------------

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.package: $(VENV)/.pip pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.package pyproject.toml
	$(PIP) install --group test --group lint
	@touch $@

# Oracles are a help, not a need: where one cannot be had, the tests that use it skip with a message.
# A failure leaves a stamp too (trying a download of this size on every run helps nobody); `make clean` retries.
$(VENV)/.oracles: $(VENV)/.tools
	@if $(PIP) install "$(TORCH)"; then \
	  $(PIP) install "$(TORCH)" peft lycoris-lora || echo "PEFT or LyCORIS did not install: their tests will skip" >&2; \
	else \
	  echo "$(TORCH) did not install: the tests that compare with torch, PEFT and LyCORIS will skip" >&2; \
	fi
	@$(PIP) install scikit-learn || echo "scikit-learn did not install: its tests will skip" >&2
	@touch $@

# -- the web pages: built where Node is there, otherwise left out with a message ---------------------

NODE_THERE := $(shell command -v npm > /dev/null 2>&1 && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2> /dev/null && echo yes)
UI_SOURCES := $(shell find src public index.html package.json package-lock.json vite.config.ts -type f 2> /dev/null | grep -v '\.test\.')

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

dist/index.html: node_modules/.installed $(UI_SOURCES)
	npm run --silent build
	@touch $@

ifeq ($(NODE_THERE),yes)
ui: dist/index.html

# Chromium for the tests: the machine's own, or the distribution's where that can be installed.
chromium:
	@command -v "$${CHROMIUM_PATH:-chromium}" chromium-browser google-chrome > /dev/null 2>&1 \
	  || { test "$(BROWSER)" = yes && test "$$(id -u)" = 0 && command -v apt-get > /dev/null 2>&1 \
	    && apt-get install -qq -y --no-install-recommends chromium > /dev/null 2>&1; } \
	  || { test "$(BROWSER)" = yes && test "$$(id -u)" = 0 && command -v apt-get > /dev/null 2>&1 \
	    && apt-get update -qq > /dev/null 2>&1 && apt-get install -qq -y --no-install-recommends chromium > /dev/null 2>&1; } \
	  || echo "no Chromium: the tests in a browser will skip" >&2

ui-test: ui chromium
	npm run --silent lint
	npm run --silent test
	$(if $(filter yes,$(BROWSER)),LORA=$(BIN)/lora npm run --silent e2e,@echo "BROWSER=no: no tests in a browser" >&2)
else
ui chromium ui-test:
	@echo "no Node 20.19 or newer: the web pages are not built, and their tests skip" >&2
endif

# -- what people call --------------------------------------------------------------------------------

# Code 4, "some of many failed", is right here: the library holds a damaged file on purpose.
demo: $(VENV)/.package
	$(BIN)/lora demo $(DEMO) --force > /dev/null
	@$(BIN)/lora inspect $(DEMO) || test $$? -eq 4
	@$(MAKE) --no-print-directory ui || echo "The web pages did not build; everything else works." >&2
	@echo
	@echo "Next:  $(BIN)/lora inspect $(DEMO)/sdxl-character-kohya.safetensors"
	@echo "       $(BIN)/lora serve $(DEMO)"
	@test "$(DEMO_SERVE)" != yes || { echo; exec $(BIN)/lora serve $(DEMO); }

lint: $(VENV)/.tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint $(if $(filter yes,$(ORACLES)),$(VENV)/.oracles)
	$(BIN)/python -m pytest -n 2 -rs
	@$(MAKE) --no-print-directory ui-test

format: $(VENV)/.tools
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pictures: $(VENV)/.package
	$(BIN)/python docs/draw_pictures.py

benchmark: $(VENV)/.package
	$(BIN)/python benchmarks/inspect_folder.py

soak: $(VENV)/.tools
	LORA_SOAK=1 $(BIN)/python -m pytest -n 0 tests/test_writer_kill.py
	LORA_SERVER_KILLS=100 LORA_CATALOG_KILLS=200 LORA_SCAN_FILES=10000 LORA_BIG_UPLOAD=1000000000 LORA_FUZZ_EXAMPLES=300 \
	  LORA_HOSTILE_PATHS=50000 $(BIN)/python -m pytest -n 0 --timeout 3600 tests/test_server_jobs.py \
	  tests/test_server_catalog.py tests/test_server_limits.py tests/test_server_fuzz.py tests/test_server_paths.py
	$(BIN)/python benchmarks/server_load.py

bench: $(VENV)/.package
	$(BIN)/python benchmarks/resize.py

clean:
	rm -rf $(VENV) $(DEMO) node_modules dist
