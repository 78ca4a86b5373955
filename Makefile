# Every target does its own set-up in .venv: `make demo` and `make test` need nothing before them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-learning test-triton test-contrib check bench dist-test sanitize clean

demo: $(READY)
	$(BIN)/sab-agents demo
	@echo; echo 'To use these commands: . .venv/bin/activate'

test: $(READY)
	$(BIN)/pytest -n auto

test-learning: $(READY)
	$(BIN)/pytest -m learning

# The GPU's kernel, on a CPU, through Triton's interpreter, which is installed here (290 MB, Linux only).
test-triton: .venv/triton
	TRITON_INTERPRET=1 $(BIN)/pytest -n auto tests/kernels/test_triton.py

.venv/triton: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu-test]'
	touch .venv/triton

# sb3-contrib's own tests of RecurrentPPO, fetched from its source distribution, against ours; some minutes.
test-contrib: .venv/peers
	$(BIN)/python -m tests.peers.contrib_suite
	$(BIN)/python -m tests.peers.image_memory

.venv/peers: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	touch .venv/peers

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/sab-agents bench core

# Builds the sdist and the wheel, and uses each alone, in an empty environment outside this folder.
dist-test: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	sh tests/dist_test.sh $(PYTHON) constraints.txt dist/*.whl
	sh tests/dist_test.sh $(PYTHON) constraints.txt dist/*.tar.gz

# Builds the native kernel with the address and undefined-behaviour sanitizers, apart, and runs random shapes through it.
sanitize: $(READY)
	sh tests/kernels/sanitize.sh $(BIN)/python 1000

# torch first and pinned: a looser request would bring gigabytes of CUDA.
$(READY): pyproject.toml setup.py constraints.txt $(wildcard sab_agents/kernels/native_backend/src/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf sab_agents/kernels/native_backend/*.so .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
