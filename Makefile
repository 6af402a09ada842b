# Two commands: `make demo` and `make test`. Each sets up what it needs; a second run finds it there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test bench explore swarm league campaign clean links
help:
	@echo 'make demo   move a real guest between two real QEMUs and report'
	@echo 'make test   lint, types, tests (with real QEMUs), coverage'
	@echo 'make explore   every interleaving of faults, against an abstract world (half an hour)'
	@echo 'make swarm  simulated migrations with faults drawn from seeds, each run twice (ten minutes)'
	@echo 'make league  every policy against every other: docs/league.md (ten minutes)'
	@echo 'make campaign  real faults on real QEMUs, hundreds of them (ten minutes; root)'
	@echo 'make bench  the measurements of benchmarks/ (root: paced links between network namespaces)'
	@echo 'make clean  remove what these commands made here'

demo: links
	@tools/need python3-venv qemu-system-x86
	@$(MAKE) --no-print-directory $(VENV)/ready-run
	@$(BIN)/whimbrel demo $(ARGS)

test: links
	@tools/need python3-venv qemu-system-x86 gcc libc6-dev strace chromium-headless-shell
	@$(MAKE) --no-print-directory $(VENV)/ready-dev
	@tools/check

bench: links
	@tools/need python3-venv qemu-system-x86 iproute2
	@$(MAKE) --no-print-directory $(VENV)/ready-run
	@$(BIN)/python -m benchmarks $(ARGS)

explore: links
	@$(MAKE) --no-print-directory $(VENV)/ready-run
	@$(BIN)/python -m whimbrel.sim.explorer $(ARGS)

swarm: links
	@$(MAKE) --no-print-directory $(VENV)/ready-run
	@$(BIN)/python -m whimbrel.sim 0..1000000 --seconds 600 --jobs 2 $(ARGS)

league: links
	@$(MAKE) --no-print-directory $(VENV)/ready-dev
	@$(BIN)/python -m benchmarks league $(ARGS)

campaign: links
	@tools/need python3-venv qemu-system-x86
	@$(MAKE) --no-print-directory $(VENV)/ready-run
	@$(BIN)/python -m benchmarks campaign --pairs 50 $(ARGS)

$(VENV)/ready-run: pyproject.toml constraints.txt
	@tools/environment run

$(VENV)/ready-dev: pyproject.toml constraints.txt
	@tools/environment dev

# A zip download, or a checkout without symbolic links, leaves small text files where the links should be.
links:
	@for d in engine qmp_driver sim; do \
	  if [ ! -L whimbrel/$$d ] && { [ -f whimbrel/$$d ] || [ ! -e whimbrel/$$d ]; }; then \
	    echo "mending the link whimbrel/$$d"; rm -f whimbrel/$$d; ln -s ../$$d whimbrel/$$d; fi; done

clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
