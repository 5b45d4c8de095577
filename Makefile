# Every target sets up .venv by itself. FASTUQ_DATA names the folder that holds cifar-100-python (default: data/).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (once; TensorFlow is the large part)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@
