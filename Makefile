# Every target sets up what it needs. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= build/demo
# Processes of `make test`, about a gigabyte each; one that is done takes tests over from another.
WORKERS ?= 2
# An index that has builds of torch without CUDA, for instance PyTorch's own:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# What `make bench` hands to benchmarks/suite.py, and the peers it sets up.
BENCH  ?= gemma-3-1b --parts build,speed,depth
PEERS  ?= llama.cpp litert $(if $(filter x86_64,$(shell uname -m)),llama.cpp-no-amx)
BIN    := $(VENV)/bin
TORCH  := torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test corruptions test-assets test-assets-heavy test-devices test-phone check fix bench bench-peers clean

setup: $(INSTALLED)

# torch first and pinned: a newer one would pull gigabytes of GPU packages.
$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pocketlm needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[build,test]'
	touch $@

# Build the embedded model for both backends, prove both right, and let each continue a text.
demo: $(INSTALLED)
	rm -rf $(DEMO)
	$(BIN)/pocketlm build pico --out $(DEMO)/pico
	$(BIN)/pocketlm verify $(DEMO)/pico
	for backend in executorch onnx; do \
	  $(BIN)/pocketlm run $(DEMO)/pico --backend $$backend --raw --temperature 0 --max-new-tokens 40 \
	    --prompt 'The "while" statement is used for repeated execution as long as an' || exit; \
	done
	$(BIN)/pocketlm run $(DEMO)/pico --temperature 0 --prompt 'Which module has Counter?'

# torch computes in one thread of each process: more would wait for each other. Modules are compiled
# once for all of them, also where Python was told to keep nothing.
test: export OMP_NUM_THREADS = 1
test: export PYTHONDONTWRITEBYTECODE =
test: $(INSTALLED)
	$(BIN)/python -m pytest -q -rs -n $(WORKERS) --dist worksteal

# The table of deliberate faults in docs/numerics.md, row by row.
corruptions: $(INSTALLED)
	$(BIN)/python -m pytest -q -rP --show-capture=stdout -m corruptions

# Published tokenizers and weights into the user's cache; tests that want them are skipped without.
test-assets: $(INSTALLED)
	$(BIN)/python -m tests.assets

# Builds Gemma 3 270M's published weights for both backends; minutes, and 2 GB of memory.
test-assets-heavy: $(INSTALLED)
	$(BIN)/python -m pytest -q -rs -m assets_heavy

# On emulated Arm devices, made from Debian's packages once; see tests/doubles/README.md.
test-devices: $(INSTALLED)
	$(BIN)/python -m tests.doubles.prepare
	$(BIN)/python -m pytest -q -rs -m devices

# On a real one: make test-phone POCKETLM_PHONE=adb:SERIAL
test-phone: $(INSTALLED)
	$(BIN)/python -m pytest -q -rs -m phone

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The systems that pocketlm is measured against, each in an environment of its own.
bench: $(INSTALLED) bench-peers
	$(BIN)/python benchmarks/suite.py $(BENCH)

bench-peers: $(PEERS:%=build/peers/%/.installed)

build/peers/llama.cpp/.installed: FLAGS = -include $(CURDIR)/benchmarks/peers/amx_tile_config.h
build/peers/llama.cpp-no-amx/.installed: FLAGS = -mno-amx-tile -mno-amx-int8 -mno-amx-bf16

# Not from pip's cache: what lies there was compiled with other flags.
build/peers/llama.cpp/.installed build/peers/llama.cpp-no-amx/.installed: benchmarks/peers/llama.cpp.txt
	$(PYTHON) -m venv $(@D)
	CFLAGS='$(FLAGS)' CXXFLAGS='$(FLAGS)' \
	  $(@D)/bin/python -m pip install --quiet --no-cache-dir --requirement $<
	touch $@

# torch first and pinned here too.
build/peers/litert/.installed: benchmarks/peers/litert.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(TORCH)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	touch $@

clean:
	rm -rf build $(VENV)
