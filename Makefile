# Everything runs in .venv, made here from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
FLAGS ?=

PRESETS := sieve window10 deep50 config-l1 guide journey journey-selector clock
SWEEPS := $(basename $(notdir $(wildcard tonesieve/experiments/*.yaml)))
COMPARED := sieve window10 deep50 config-l1 guide journey

.PHONY: run presets limits compare sweeps claims own-noise pretrained examples bench bench-all test test-all lint types format clean

run: $(STAMP)  ## the main job: train, judge and show the default extractor
	$(BIN)/tonesieve run $(FLAGS)

presets: $(STAMP)  ## every preset in full (hours), and the README's table from them
	for p in $(PRESETS); do $(BIN)/tonesieve run $$p $(FLAGS) --out runs/presets/$$p || exit; done
	$(BIN)/python docs/tables.py presets $(PRESETS:%=runs/presets/%)
	$(BIN)/python docs/rescore.py runs/presets/window10

limits: $(STAMP)  ## the limit by window and phase_scale (a minute), and its table
	$(BIN)/python docs/tables.py limits

compare: $(STAMP)  ## the presets' runs beside the filters and the limit (minutes), and the table
	$(BIN)/python docs/tables.py compare $(COMPARED:%=runs/presets/%)

sweeps: $(STAMP)  ## every shipped sweep (hours; goes on where it stood), and its page
	for s in $(SWEEPS); do $(BIN)/tonesieve sweep $$s $(FLAGS) --out sweeps/$$s || exit; done
	$(BIN)/python docs/sweep_tables.py $(SWEEPS:%=sweeps/%)
	$(BIN)/python docs/claims.py

claims: $(STAMP)  ## the pages of sweeps and claims, from the kept results
	$(BIN)/python docs/sweep_tables.py
	$(BIN)/python docs/claims.py

examples: $(STAMP)  ## three real recordings worked through, and their page
	$(BIN)/python examples/worked.py

own-noise: $(STAMP)  ## the page on training in a recording's own noise, from the kept results
	$(BIN)/python docs/own_noise.py

pretrained: $(STAMP)  ## evaluates the pretrained extractor (five minutes; twenty the first time) and writes its model card
	$(BIN)/python docs/pretrained.py evaluate
	$(BIN)/python docs/pretrained.py real
	$(BIN)/python docs/tables.py

bench: $(STAMP)  ## the page of benchmarks and its picture, from the kept results
	$(BIN)/python benchmarks/growth.py --draw
	$(BIN)/python benchmarks/page.py

bench-all: $(STAMP)  ## every benchmark again (two hours), its rivals too, and the page
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	rm -rf runs/benchmarks
	for b in throughput streaming recordings growth limits recipes; do $(BIN)/python benchmarks/$$b.py || exit; done
	$(MAKE) bench

# Two test processes; whichever is done takes over from the other.
TWO := -n 2 --dist worksteal

test: lint types  ## lint, types, and the tests that take under five minutes
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-all: lint types  ## every test, the slow ones too
	$(BIN)/python -m pytest $(TWO)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/docstrings.py

types: $(STAMP)
	$(BIN)/mypy tonesieve

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tonesieve needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,sweep,ray,dev]'
	touch $(STAMP)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
