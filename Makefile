# Every target sets up .venv by itself. FASTUQ_DATA names the folder that holds cifar-100-python (default: data/).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo cache-features score bench cifar100c reproduce test coverage test-memory test-oldest torture lint \
	docs clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (once; TensorFlow is the large part)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev,docs]'
	@touch $@

demo: $(READY)
	@$(BIN)/fastuq demo

cache-features: $(READY)
	$(BIN)/fastuq cache-features

score: $(READY)
	$(BIN)/fastuq score

# Files carry the class of the machine: out/bench-avx2.json, .md and .png, for instance.
bench: $(READY)
	$(BIN)/fastuq bench --output out/bench

cifar100c: $(READY)
	$(BIN)/fastuq score-cifar100c --csv out/cifar100c.csv --json out/cifar100c.json --markdown out/cifar100c.md

reproduce: $(READY)
	$(BIN)/fastuq reproduce --output out/reproduce

# Two processes and more, where there are processors for them; a file's tests stay together; one that dies is not tried
# again.
JOBS := -n auto --dist loadfile --max-worker-restart 0

test: $(READY)
	$(BIN)/python -m pytest $(JOBS) $(COVERAGE)

# The same, and how much of fastuq they ran. What runs in other processes, and the compiled kernels, cannot be counted.
coverage: COVERAGE := --cov --cov-report=term
coverage: test

# The oldest releases that pyproject.toml allows: what needs TensorFlow or another extra is skipped, and named.
OLDEST := .venv-oldest

$(OLDEST)/.ready: pyproject.toml .ci/oldest.txt
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@echo "Setting up $(OLDEST) (once)"
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint .ci/oldest.txt \
		--editable '.[images]' hypothesis pytest pytest-xdist scikit-learn
	@touch $@

test-oldest: $(OLDEST)/.ready
	NUMBA_CACHE_DIR=$(CURDIR)/$(OLDEST)/numba $(OLDEST)/bin/python -m pytest $(JOBS)

# Kernels and scoring once more where freed memory is overwritten at once and all threads share one heap.
test-memory: $(READY)
	PYTHONMALLOC=debug MALLOC_PERTURB_=85 MALLOC_ARENA_MAX=1 $(BIN)/python -m pytest $(JOBS) \
		tests/montecarlo tests/scoring/test_scoring.py

torture: $(READY)
	$(BIN)/python -m pytest -m torture -rP -o faulthandler_timeout=1800

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site, in out/site. The variable takes a notice of Material's on MkDocs 2 away, not a warning.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf out build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
