# make run: the agents that ship play, then the whole procedure in small, from nothing. make play: the studio, a page to play the
# dreams in. make site: the same page as static files, in site/. make test: lint and all tests but the slow. make faults:
# every fault injected into whole commands. make soak: half an hour of them, and an undisturbed twin. make mutants: small wrong
# changes to the code, each of which must turn a test red.
PYTHON ?= python3
PY := "$(CURDIR)/.venv/bin/python"
# the controllers that ship, by the constant of each game; read when a recipe runs, for it needs .venv
AGENT = $(CURDIR)/$(shell $(PY) -c "from $(1).config import SHIPPED_CONTROLLER as path; print(path)")

NETWORK = $(CURDIR)/$(shell $(PY) -c "from $(1).config import ITERATE; print(ITERATE['laptop'].controller)")

.PHONY: run play site test faults soak mutants lint bench setup

run: setup
	@echo "== Doom: the network, trained in the dream by a policy gradient, in the real game, 100 episodes =="
	cd doomrnn && $(PY) model.py doomreal norender "$(call NETWORK,doomrnn)" 1000 --out ../runs/doomreal.network.json
	@echo "== Doom: the linear controller, evolved in the dream, in the real game, 100 episodes =="
	cd doomrnn && $(PY) model.py doomreal norender "$(call AGENT,doomrnn)" 1000 --out ../runs/doomreal.json
	@echo "== Doom: the random policy, 100 episodes =="
	cd doomrnn && $(PY) model.py doomreal norender random 1000 --out ../runs/doomreal.random.json
	@echo "== Doom: one episode of the network to watch: real, as the VAE sees it, as the MDN-RNN expected it =="
	cd doomrnn && $(PY) model.py doomreal render "$(call NETWORK,doomrnn)" 1000 --video ../runs/doomreal.mp4
	@echo "== CarRacing: the network, trained in the game by a policy gradient, in Gymnasium, 16 tracks =="
	cd carracing && $(PY) model.py norender "$(call NETWORK,carracing)" 1000 --episodes 16 --out ../runs/carracing.network.json
	@echo "== CarRacing: the linear controller, evolved in the game, 16 tracks =="
	cd carracing && $(PY) model.py norender "$(call AGENT,carracing)" 1000 --episodes 16 --out ../runs/carracing.json
	@echo "== CarRacing: the random policy, 16 tracks =="
	cd carracing && $(PY) model.py norender random 1000 --episodes 16 --out ../runs/carracing.random.json
	@echo "== CarRacing: one episode of the network to watch =="
	cd carracing && $(PY) model.py render "$(call NETWORK,carracing)" 1000 --video ../runs/carracing.mp4
	@echo "== CarRacing, the whole procedure in small, from nothing: play, learn the world, evolve, play =="
	cd carracing && $(PY) iterate.py --preset smoke --run ../runs/smoke
	@echo "Scores: runs/doomreal.network.json, doomreal.json, doomreal.random.json, carracing.network.json,"
	@echo "carracing.json, carracing.random.json, smoke/rounds.json"
	@echo "Videos: runs/doomreal.mp4, runs/carracing.mp4"

play: setup
	$(PY) -m common.studio $(if $(PORT),--port $(PORT))

site: setup
	$(PY) -m common.studio.export --out site

test: setup lint
	$(PY) -m pytest -n 2 --dist loadfile

faults: setup
	$(PY) -m pytest tests/faults -m "slow or not slow"

soak: setup
	$(PY) tests/faults/soak.py --out log/doomrnn.soak.jsonl

mutants: setup
	$(PY) tests/mutants.py --out runs/mutants.json

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: setup
	$(PY) bench/dream.py
	$(PY) bench/carracing.py
	$(PY) bench/ppo.py
	$(PY) bench/planner.py

setup: .venv/installed
	@mkdir -p runs

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit("Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; name another one with PYTHON=python3.12" if not (3, 11) <= v <= (3, 13) else 0)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements.txt -e .
	touch $@
