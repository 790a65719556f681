# Everything runs in .venv, made here from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
FLAGS ?=

PRESETS := sieve window10 deep50 config-l1 guide journey journey-selector clock
SWEEPS := $(basename $(notdir $(wildcard tonesieve/experiments/*.yaml)))
COMPARED := sieve window10 deep50 config-l1 guide journey

.PHONY: run presets limits compare sweeps claims own-noise pretrained kinds combs find-rates examples bench bench-all peers test test-all lint types format clean

run: $(STAMP)  ## train and evaluate the default network, and draw its figures
	$(BIN)/tonesieve run $(FLAGS)

presets: $(STAMP)  ## run every preset in full (hours); write the README's table
	for p in $(PRESETS); do $(BIN)/tonesieve run $$p $(FLAGS) --out runs/presets/$$p || exit; done
	$(BIN)/python docs/tables.py presets $(PRESETS:%=runs/presets/%)
	$(BIN)/python docs/rescore.py runs/presets/window10

limits: $(STAMP)  ## compute the limit by window and phase_scale (a minute); write its table
	$(BIN)/python docs/tables.py limits

compare: $(STAMP)  ## compare the presets' runs with the filters and the limit (minutes); write the table
	$(BIN)/python docs/tables.py compare $(COMPARED:%=runs/presets/%)

sweeps: $(STAMP)  ## do every shipped sweep (hours; continues after an interruption); write its page
	for s in $(SWEEPS); do $(BIN)/tonesieve sweep $$s $(FLAGS) --out sweeps/$$s || exit; done
	$(BIN)/python docs/sweep_tables.py $(SWEEPS:%=sweeps/%)
	$(BIN)/python docs/claims.py

claims: $(STAMP)  ## write the pages of sweeps and claims from the stored results
	$(BIN)/python docs/sweep_tables.py
	$(BIN)/python docs/claims.py

examples: $(STAMP)  ## compute the three worked examples; write their page
	$(BIN)/python examples/worked.py

own-noise: $(STAMP)  ## write the page on training in a recording's noise, from the stored results
	$(BIN)/python docs/own_noise.py

pretrained: $(STAMP)  ## evaluate the pretrained extractor (an hour with the filters, whose results are kept); write its model card
	$(BIN)/python docs/pretrained.py evaluate
	$(BIN)/python docs/pretrained.py real
	$(BIN)/python docs/tables.py

kinds: $(STAMP)  ## measure the default extractor on twelve kinds of recordings (three minutes); write its page
	$(BIN)/python docs/kinds.py

combs: $(STAMP)  ## measure combs by their number of harmonics (three minutes); write their page
	$(BIN)/python docs/combs.py

find-rates: $(STAMP)  ## measure false alarms and hits of `find` (ten minutes); write its page
	$(BIN)/python docs/find_rates.py

bench: $(STAMP)  ## write the page of benchmarks and its figure from the stored results
	$(BIN)/python benchmarks/growth.py --draw
	$(BIN)/python benchmarks/page.py

bench-all: $(STAMP)  ## do every benchmark again (two hours), with the other implementations; write the page
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	rm -rf runs/benchmarks
	for b in throughput streaming recordings growth limits recipes; do $(BIN)/python benchmarks/$$b.py || exit; done
	$(MAKE) bench

peers: $(STAMP)  ## measure others' tools beside tonesieve (a quarter of an hour); write their page
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/peers.py

# Two test processes; one that is finished takes tests from the other.
TWO := -n 2 --dist worksteal

test: lint types  ## lint, check types, and run the tests that take under five minutes
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-all: lint types  ## run every test, also the slow ones
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
