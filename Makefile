# Every target sets up what it needs. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= build/demo
BIN    := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test check fix bench clean

setup: $(INSTALLED)

# torch first and pinned: a newer one would pull gigabytes of GPU packages.
$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pocketlm needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[build,test]'
	touch $@

# Build the embedded model for both backends, prove both right, and let each continue a text.
demo: $(INSTALLED)
	rm -rf $(DEMO)
	$(BIN)/pocketlm build models/pico --out $(DEMO)/pico
	$(BIN)/pocketlm verify $(DEMO)/pico
	$(BIN)/pocketlm run $(DEMO)/pico --backend executorch --raw --prompt 'Return a list of' --max-new-tokens 48 --temperature 0
	$(BIN)/pocketlm run $(DEMO)/pico --backend onnx --raw --prompt 'Return a list of' --max-new-tokens 48 --temperature 0

test: $(INSTALLED)
	$(BIN)/python -m pytest -q

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/full_size_build.py

clean:
	rm -rf build $(VENV)
