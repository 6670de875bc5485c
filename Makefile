# Everything here makes its own environment in .venv, the benchmarks in .venv-bench; nothing has to be prepared but Python 3.11 and make.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench soak clean

PYTHON := .venv/bin/python

help: ## Show what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

# make hands EXIT=1, PHOTOS=folder, KEEP=1 and PORT=8123 on in the environment.
demo: .venv/.ready-for-demo ## Run the sample project with worker and beat (EXIT=1, PHOTOS=folder, KEEP=1, PORT=8123)
	@exec $(PYTHON) -m sampleproject.demo

test: .venv/.ready-for-tests ## Run the tests with real servers, and lint (SERVICES=none: without servers, LONG=1: the long ones too)
	@$(PYTHON) -m tests.services.install
	@tests=$$($(PYTHON) -c 'import sys; print("py%d%d-dj52" % sys.version_info[:2])'); \
	$(PYTHON) -m tox run-parallel -p 2 --notest --parallel-no-spinner -qq -e lint,isolation,$$tests || \
	echo "make: an environment was not made; what comes next says why" >&2; \
	$(PYTHON) -m tox run-parallel -p 2 --parallel-no-spinner -e lint,isolation; checked=$$?; \
	KOAN_TEST_LONG=$(LONG) $(PYTHON) -m tox run -e $$tests && exit $$checked

lint: .venv/.ready-for-tests ## Run ruff, mypy, import-linter and the check for missing migrations
	@$(PYTHON) -m tox run -e lint

bench: .venv-bench/.ready ## Measure against the peers, all areas or AREA=messaging; fails when a goal is missed
	@.venv-bench/bin/python -m benchmarks $(AREA)

# SEED=7 repeats the faults of an earlier run.
soak: .venv/.ready-for-tests ## Inject real faults for a while and check the sums (AREA=messaging SECONDS=120 SEED=7)
	@$(PYTHON) -m tests.soaks $(or $(AREA),messaging) --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

clean: ## Remove the environments, caches and the state of the demo
	rm -rf .venv .venv-bench .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist var
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv-bench/.ready: benchmarks/pyproject.toml bin/setup
	@KOAN_VENV=.venv-bench bin/setup "the benchmark run" --group benchmarks/pyproject.toml:bench
	@touch $@

.venv/.ready-for-demo: pyproject.toml bin/setup
	@bin/setup "the demo" --editable . --group sample
	@touch $@

.venv/.ready-for-tests: pyproject.toml bin/setup
	@bin/setup "the test run" --group dev
	@touch $@
