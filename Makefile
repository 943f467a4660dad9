# Two commands need nothing but Python 3.11 or newer: `make demo` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where it is set, each process of a test run would compile the model libraries anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/installed: requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/install

install: $(VENV)/installed ## Make the virtual environment with the locked dependencies

demo: install ## Run a real sync of the sample sessions with the offline model and show what it did
	@$(BIN)/lerim demo

test: install ## Everything: format, lint, types, import rules, tests
	@VENV="$(VENV)" sh .ci/check

# In memory where that can be had: no test of these pulls the plug, and disks that others use make thousands of fsyncs slow.
test-unit: install ## Unit and contract tests alone, in seconds
	@$(if $(wildcard /dev/shm/.),TMPDIR=/dev/shm) $(BIN)/python -m pytest -q -n 2 tests/unit tests/contracts

test-sessions: install ## Run every session of the folder LERIM_TEST_SESSIONS through index, windows and sync
	@test -n "$(LERIM_TEST_SESSIONS)" || { echo "set LERIM_TEST_SESSIONS to a folder of sessions" >&2; exit 2; }
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/integration/test_real_sessions.py tests/integration/test_every_utterance.py tests/e2e/test_real_sessions_sync.py -s

cycles: install ## Start, kill and stop everything 100 times (LERIM_TEST_CYCLES) and look for what was left
	@LERIM_TEST_CYCLES=$${LERIM_TEST_CYCLES:-100} $(BIN)/python -m pytest -q -p no:cacheprovider tests/e2e/test_cycles.py -s

test-backends: install ## Send a traced sync to a real Phoenix and a real MLflow and read it back (downloads both)
	@for name in arize-phoenix mlflow==3.17.2; do \
	  place=.venv-backends/$$(echo $$name | sed 's/arize-//; s/==.*//'); \
	  [ -f $$place/installed ] || { $(PYTHON) -m venv $$place && VIRTUAL_ENV=$$place $(BIN)/uv pip install -q $$name && touch $$place/installed; } || exit 1; \
	done
	@LERIM_TEST_BACKENDS=.venv-backends $(BIN)/python -m pytest -q -p no:cacheprovider tests/backends

# What the lock has, then the extra over it, in a place of its own: nobody else gets a model.
test-embed: install ## Test the extra lerim-jobs[embed] in a virtual environment of its own (downloads it)
	@[ -x .venv-embed/bin/python ] || $(PYTHON) -m venv .venv-embed
	@VIRTUAL_ENV=.venv-embed $(BIN)/uv pip install -q --require-hashes -r requirements.lock
	@VIRTUAL_ENV=.venv-embed $(BIN)/uv pip install -q --no-build-isolation --editable '.[embed]'
	@.venv-embed/bin/python -m pytest -q -p no:cacheprovider tests/embed tests/unit/test_embeddings.py
	@.venv-embed/bin/python -m benchmarks.recall

docs: install ## Write the pages that are made from the code: docs/reference/cli.md
	@$(BIN)/python -m tests.cli_reference

bench: install ## Print the figures of the README, as ratios within one run
	@$(BIN)/python -m benchmarks

bench-search: install ## Measure search at 100,000 memories; takes some minutes
	@$(BIN)/python -m benchmarks --search-only 100000

eval: install ## Print how often search finds what was asked for; LERIM_LOCOMO=FILE measures that set too
	@$(BIN)/python -m benchmarks.recall

bench-idle: install ## Print what everything costs while idle, over LERIM_BENCH_IDLE_S seconds (60)
	@$(BIN)/python -m benchmarks --idle $${LERIM_BENCH_IDLE_S:-60}

drill: install ## Ten minutes of faults in a sandbox, then the audit: six zeros (SEED=n draws the same faults)
	@$(BIN)/lerim drill --minutes 10 --faults 300 $(if $(SEED),--seed $(SEED))

drill-sabotage: install ## A drill of workers without fence and quote check, which must find both missing
	@LERIM_TEST_SABOTAGE=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/e2e/test_drill.py -k missing

bench-compare: install ## Durable stages a second beside bare dramatiq and DBOS, which gets a virtual environment of its own
	@test -x $(VENV)-dbos/bin/python || $(PYTHON) -m venv $(VENV)-dbos
	@$(BIN)/uv pip install -q --python $(VENV)-dbos/bin/python dbos==3.4.0
	@$(BIN)/python -m benchmarks.compare --dbos $(VENV)-dbos/bin/python

bench-big: install ## A log of a million events: status of a job, rebuild; a first scan of 10,000 sessions; long histories
	@$(BIN)/python -m benchmarks.big

bench-history: install ## First sync of 1 GB of sessions and of one file of 2 GB: memory, longest transaction (needs 5 GB of disk)
	@$(BIN)/python -m benchmarks.big --history-only

lock: install ## Lock the dependencies again, with hashes and without index addresses
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -q -o requirements.lock

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .venv-backends .venv-embed .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

.PHONY: help install demo test test-unit test-sessions test-backends test-embed cycles docs bench bench-search bench-idle bench-compare bench-big bench-history drill drill-sabotage eval lock clean
