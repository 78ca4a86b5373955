# Every target does its own set-up in .venv: `make demo` and `make test` need nothing before them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-slow test-learning test-triton test-contrib matrix check bench docs notebooks dist-test sanitize clean

demo: $(READY)
	$(BIN)/sab-agents demo
	@echo; echo 'To use these commands: . .venv/bin/activate'

test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal

# More cases of what `make test` checks with a few: every combination of settings, every core in every format.
test-slow: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m slow

test-learning: $(READY)
	$(BIN)/pytest -m learning

# The GPU's kernel, on a CPU, through Triton's interpreter, which is installed here (290 MB, Linux only).
test-triton: .venv/triton
	TRITON_INTERPRET=1 $(BIN)/pytest -n auto tests/kernels/test_triton.py

.venv/triton: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu-test]'
	touch .venv/triton

# sb3-contrib's own tests of RecurrentPPO and stable-baselines3's of PPO and A2C, fetched from their source distributions,
# against ours; and RL Zoo's scripts and other packages' environments with our agents. A quarter of an hour.
test-contrib: .venv/peers
	$(BIN)/python -m tests.peers.suites
	$(BIN)/python -m tests.peers.image_memory
	$(BIN)/pytest -m peers

.venv/peers: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers,zoo,ray,tracking,river]'
	# Its requirement of pygame does not install beside minigrid's, which serves it as well.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps memory-gym==1.0.2
	touch .venv/peers

# A selection of tests with each Python that is here, and with the oldest and the newest dependencies: gigabytes of torch.
# `make matrix MATRIX='--python 3.11 --torch 2.13.0'` takes one torch for all. What was run and what not is printed.
matrix: $(READY)
	$(BIN)/python -m tests.matrix $(MATRIX)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/sab-agents bench core

# The site, in build/site: strictly, so that a broken link or reference fails. Its pages open without a server,
# but the search needs one: python -m http.server --directory build/site
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/pytest -q tests/test_documentation.py tests/test_notebooks.py

# Runs the notebooks at full size, and keeps what they print and draw. Minutes.
notebooks: .venv/docs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --coalesce-streams \
		--ExecutePreprocessor.record_timing=False docs/notebooks/*.ipynb
	rm -f docs/notebooks/*.zip

.venv/docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch .venv/docs

# Builds the sdist and the wheel, and uses each alone, in an empty environment outside this folder.
dist-test: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	sh tests/dist_test.sh $(PYTHON) constraints.txt dist/*.whl
	sh tests/dist_test.sh $(PYTHON) constraints.txt dist/*.tar.gz

# Builds the native kernel with the address and undefined-behaviour sanitizers, apart, and runs random shapes
# and random calls of everything public through it.
sanitize: $(READY)
	sh tests/kernels/sanitize.sh $(BIN)/python 1000 10000

# torch first and pinned: a looser request would bring gigabytes of CUDA. Python compiles what is imported, of which there is much
# less than what is installed.
$(READY): pyproject.toml setup.py constraints.txt $(wildcard sab_agents/kernels/native_backend/src/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf sab_agents/kernels/native_backend/*.so .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
