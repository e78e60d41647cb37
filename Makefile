# The everyday commands. Everything they need is installed into .venv; `make clean` takes it away again.
#
#   make demo     see it work: three servers, a load balancer, some traffic
#   make test     run all tests                      (TEST_ARGS="-k failover")
#   make fuzz     random bytes against HTTP, new ones each time; what fails prints how to replay it
#                                                    (FUZZ=20000 examples of each property, FUZZ_ARGS="-k tunnel")
#   make slow     slow clients, a minute for each attack; needs slowhttptest and a quiet machine
#   make chaos    servers that die, flap, fail fast, slow down and return, a minute of each kind
#   make reload   lb.ini is read again each second under load, and servers come and go, a minute of each
#   make soak     mixed traffic and faults, 30 min   (SOAK_ARGS="--minutes 2")
#   make check    formatting, lint, types, imports
#   make bench    beside HAProxy, nginx and Envoy, 20 min; see docs/performance.md
#                                                    (BENCH_ARGS="get --rounds 9", BENCH_ARGS=--list)
#   make bench-quick                                 beside HAProxy only, 25 s; fails on a gross loss of speed
#   make plots    the pictures of docs/algorithms.md, and its tables; a minute
#   make man      the manual page, docs/lbservice.1, from what the commands say of themselves
#   make format   put the code in shape
#   make clean    remove .venv and caches

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

FUZZ ?= 2000

.PHONY: help demo test fuzz slow chaos reload soak check bench bench-quick plots man format clean

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/use
	@$(BIN)/lbservice demo $(DEMO_ARGS)

# Tests start many processes. With compiled modules each is there sooner, also where Python may not write them.
test: .venv/dev
	@$(BIN)/python -m compileall -q lbservice twisted tests/support
	@$(BIN)/python -m pytest -n 3 $(TEST_ARGS)

fuzz: .venv/dev
	@FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/property --hypothesis-show-statistics $(FUZZ_ARGS)

check: .venv/dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

slow: .venv/dev
	@SLOW_SECONDS=60 $(BIN)/python -m pytest tests/system/test_slow_clients.py -rP $(TEST_ARGS)

chaos: .venv/dev
	@CHAOS_SECONDS=60 $(BIN)/python -m pytest tests/system/test_chaos.py -rP $(TEST_ARGS)

reload: .venv/dev
	@RELOAD_SECONDS=60 RELOAD_ROUNDS=1000 $(BIN)/python -m pytest tests/system/test_reload.py -rP $(TEST_ARGS)

soak: .venv/dev
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

bench: .venv/bench
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: .venv/use
	@$(BIN)/python -m benchmarks --quick --max-ratio 3 $(BENCH_ARGS)

plots: .venv/docs
	@$(BIN)/python -m benchmarks.algorithms

man: .venv/use
	@$(BIN)/python -m lbservice.admin.cli.manual docs/lbservice.1

format: .venv/dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache twisted/plugins/dropin.cache
	find lbservice tests benchmarks twisted -name __pycache__ -prune -exec rm -rf {} +

.venv/use: pyproject.toml | $(BIN)/python
	@echo "Installing lbservice into .venv ..."
	@$(PIP) -e .
	@touch $@

.venv/dev: pyproject.toml | $(BIN)/python
	@echo "Installing lbservice and its tools into .venv ..."
	@$(PIP) -e '.[dev]'
	@touch .venv/use $@

.venv/bench: pyproject.toml | $(BIN)/python
	@echo "Installing lbservice and the programs that it is measured beside into .venv ..."
	@$(PIP) -e '.[bench]'
	@touch .venv/use $@

.venv/docs: pyproject.toml | $(BIN)/python
	@echo "Installing lbservice and what draws the pictures into .venv ..."
	@$(PIP) -e '.[docs]'
	@touch .venv/use $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "On Debian: apt-get install python3-venv"; exit 1; }
