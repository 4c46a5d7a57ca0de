# Each target first installs its requirements; see tools/setup/README.md.

PYTHON := .venv/bin/python

.PHONY: setup peers ready ready-for-tests demo test soak sweeps releases dist bench size lint ruff mypy pyright format clean
.DEFAULT_GOAL := setup

setup: ## install the missing parts, then report the state of this machine
	@tools/setup/all --again
	@.venv/bin/plugvault doctor

peers: ## the stacks of other makers that tests/peers talks to, and other programs of tests
	@tools/setup/tshark || true
	@tools/setup/examples || true
	@tools/setup/peers --again

ready: # install the missing parts, without a retry of those that failed within the last hour
	@tools/setup/all

demo: ## run the demo, with the parts that it needs; ARGS="--runtime cpython --json" are handed on
	@tools/setup/all demo
	@.venv/bin/plugvault demo $(ARGS)

ready-for-tests: # and a PostgreSQL server in the cache
	@tools/setup/all test

test: ready-for-tests ## the whole suite on two cores; ARGS="-k name" are handed on
	@.venv/bin/pytest -n 2 --dist loadgroup $(ARGS)

SOAKED := tests/faults tests/board tests/peers tests/attacks/test_secrecy.py tests/e2e/test_many_cars.py \
	tests/e2e/test_pytest_plugin.py tests/unit/test_custody.py tests/unit/test_custody_leaves_nothing.py \
	tests/unit/test_vault_conformance.py

soak: sweeps releases ## all long tests; `make -k soak` goes on after a failure

sweeps: ready-for-tests ## all points of the fault tests and of the token tests, an hour; the ports, three hours
	@PLUGVAULT_SOAK=1 .venv/bin/pytest -n 2 --dist loadgroup -rP $(SOAKED) $(ARGS)

releases: ready ## make demo and make test on the other releases of Debian; needs root
	@$(PYTHON) tools/other_releases

dist: ready ## the files of a release, of the last commit, in dist/
	@$(PYTHON) tools/release.py $(ARGS)

bench: ready-for-tests ## speed, size and memory, beside their budgets
	@$(PYTHON) tools/benchmarks/run.py $(ARGS)

size: ready ## bytecode and heap of the module on a board, beside the six budgets
	@$(PYTHON) tools/sizes.py
	@$(PYTHON) tools/benchmarks/run.py memory
	@$(PYTHON) tools/sizes.py --long

lint: ruff mypy pyright ## style and types, as CI checks them

ruff: ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
mypy: ready
	.venv/bin/mypy
pyright: ready
	@tools/setup/stubs
	$(PYTHON) tools/pyright_ports.py

format: ready ## repair style, as far as ruff can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean: ## delete all build results in this folder; the cache of interpreters stays
	rm -rf .venv build dist typings .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
