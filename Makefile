# make demo | test | check | mlflow | screenshots | site | lock | docs | clean
VENV ?= .venv
CORES ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3.13 python3,$(shell command -v $(p) >/dev/null && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo test check mlflow screenshots site lock docs clean

demo: $(INSTALLED)
	tvts watch tvts recover snakemake --cores $(CORES) --configfile demo/config.yaml --keep-going --rerun-incomplete
	snakemake --cores 1 --configfile demo/config.yaml --report results/report/report.html --quiet all
	@echo "report: $(abspath results/report/report.html)    browse the runs: make mlflow"

test: $(INSTALLED)
	pytest -n $(CORES)

check: $(INSTALLED)
	ruff format --check .
	ruff check .
	snakefmt --check workflow rules demo
	snakemake --lint
	mypy
	python envs/generate.py --check
	tvts docs --check
	python docs/diagrams.py --check

mlflow: $(INSTALLED)
	tvts track --config results/report/config.json
	mlflow ui --backend-store-uri sqlite:///results/mlflow.db

# pictures for docs/images, of the results that are here
screenshots: $(INSTALLED)
	REQUIRE_BROWSER=1 TVTS_SHOW=. pytest -n 0 tests/workflow/test_browser.py

site: $(INSTALLED)
	python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site: $(abspath site/index.html)"

lock: $(INSTALLED)
	python envs/generate.py --freeze

docs: $(INSTALLED)
	python envs/generate.py
	tvts docs
	python docs/diagrams.py

# everything that was made, weeks of training included: so it asks
clean:
	@! test -e results || { du -sh results; printf 'delete results/, with all trained models? [y/N] '; read answer && test "$$answer" = y; }
	rm -rf results .snakemake

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python >= 3.11 not found; install it or give one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
