# Every target works in a fresh clone: what it needs is set up first, in .venv, and only again when
# pyproject.toml or constraints.txt change.
#
# torch: PyPI's build for Linux brings CUDA with it. Where there is no NVIDIA card the CPU-only build is much smaller;
# take the URL of the "CPU" index from the install page of PyTorch and give it to the two targets that install:
#
#     make setup PIP_ARGS="--extra-index-url URL"          (and make setup-peers, for rivals in benchmarks)
#
# Its version (2.13.0+cpu, say) satisfies the constraint and is preferred to the plain one.

PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?=
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
IN_PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile
IMPORTED := faiss, hypothesis, matplotlib.pyplot, numba, pytest, torch._dynamo, torch.utils.tensorboard, xdist, hybrid.training_run
PEERS_PIP := .venv-peers/bin/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints-peers.txt

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all lint clean bench bench-quick report bench-peers setup-peers bench-gpu-only bench-step bench-head bench-quality bench-workers bench-row-lr bench-memory bench-pipeline bench-auto bench-start

help: ## list every target
	@echo "make TARGET, one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "Variables: WORKERS=4, ARGS=\"--minutes 3 --seed 1\" (train), ARGS=\"-k supervisor\" (test), PYTHON=python3.12, PIP_ARGS"

setup: $(INSTALLED) ## create .venv, install what constraints.txt pins

# The stamp is written last, so that an installation that was cut short is done again. Compiling all that was installed
# would take longer than installing it. What processes import is compiled here, once: where PYTHONDONTWRITEBYTECODE is
# set, as in many containers, each of them would else compile PyTorch anew, which takes seconds.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: make setup PYTHON=/path/to/a/newer/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { echo "$(PYTHON) cannot make .venv: install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c 'import $(IMPORTED)'
	@touch $@

train: setup ## train on emoji, by default for ten minutes: WORKERS=, ARGS=
	$(BIN)/hybrid train $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

test: setup ## run the quick tests, without network: ARGS=
	$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

test-all: setup ## run all tests, the slow ones too, one after the other
	$(BIN)/python -m pytest -m "" $(ARGS)

lint: setup ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-quick: setup ## the gates that three minutes are enough for: ARGS=
	$(BIN)/python -m benchmarks.suite quick $(ARGS)

bench: setup ## all gates of one machine, ten minutes and more; rivals' after make setup-peers: ARGS=
	$(BIN)/python -m benchmarks.suite full $(ARGS)

# fastText needs a compiler: without one everything else is measured, and each setup-peers tries again.
setup-peers: .venv-peers/.installed ## create .venv-peers with the rivals of bench-peers
	@.venv-peers/bin/python -c 'import fasttext' 2>/dev/null || $(PEERS_PIP) fasttext || \
	  echo "fastText could not be compiled (is there a C++ compiler?): it will not be measured; with one, make setup-peers"

# torchbiggraph asks for versions of 2019; the tools that the part measured here imports are named instead.
.venv-peers/.installed: constraints-peers.txt
	@$(PYTHON) -m venv .venv-peers
	$(PEERS_PIP) torch fbgemm-gpu-cpu gensim attrs h5py setuptools tqdm
	$(PEERS_PIP) --no-deps torchbiggraph
	@touch $@

bench-peers: setup setup-peers ## compare the wide engine with its rivals on CPU cores, seven minutes: ARGS=
	$(BIN)/python -m benchmarks.suite peers $(ARGS)

bench-gpu-only: setup ## compare with the whole matrix on the trunk's device, at most 90 minutes: ARGS="--continue"
	$(BIN)/python -m benchmarks.gpu_only $(ARGS)

bench-step: setup ## time of a step of trunk and output layer by number of tags, with workers and without: ARGS=
	$(BIN)/python -m benchmarks.step_scaling $(ARGS)

bench-head: setup ## time and memory of the wide head alone, up to a million tags
	$(BIN)/python -m benchmarks.head_scaling
	$(BIN)/python -m benchmarks.head_memory

bench-start: setup ## from the birth of a process to its first step, at a million tags: ARGS=
	$(BIN)/python -m benchmarks.start $(ARGS)

QUALITY := runs/quality-$(shell date +%Y%m%d-%H%M%S)
bench-quality: setup ## what the default training reaches on held-out pictures, half an hour: FOLDER=a-data-set-of-yours
	$(BIN)/hybrid train --run-dir $(QUALITY)/emoji
	$(BIN)/hybrid train --run-dir $(QUALITY)/bfloat16 --row-dtype bfloat16
	$(BIN)/hybrid train --run-dir $(QUALITY)/without-twemoji --hold-out-design twemoji
	$(if $(FOLDER),$(BIN)/hybrid train --run-dir $(QUALITY)/folder --data "folder:$(FOLDER)")
	$(BIN)/python -m benchmarks.run_quality emoji=$(QUALITY)/emoji "emoji, bfloat16 rows=$(QUALITY)/bfloat16" \
	  emoji-without-twemoji=$(QUALITY)/without-twemoji $(if $(FOLDER),"$(notdir $(FOLDER:/=))=$(QUALITY)/folder")

bench-workers: setup ## quality with 1, 2 and 4 workers, 3 seeds: ARGS=
	$(BIN)/python -m benchmarks.worker_quality $(ARGS)

bench-row-lr: setup ## search row learning rates for the hybrid and its rivals alike: ARGS="--continue"
	$(BIN)/python -m benchmarks.row_lr_search $(ARGS)

bench-memory: setup ## the most tags that each contender can hold, predicted and tried: ARGS=
	$(BIN)/python -m benchmarks.memory_limits $(ARGS)

bench-pipeline: setup ## how long a trunk of modelled latency waits for workers, one and two: ARGS=
	$(BIN)/python -m benchmarks.suite pipeline $(ARGS)

bench-auto: setup ## what --negatives auto buys at equal training time, 3 seeds, an hour: ARGS="--minutes 3 --seeds 0"
	$(BIN)/python -m benchmarks.auto_negatives $(ARGS)

report: setup ## make report.html and the tables of README and docs/benchmarks.md from the results
	$(BIN)/python -m benchmarks.report

clean: ## remove .venv, .venv-peers and what tools left behind; runs/ and prepared data stay
	rm -rf .venv .venv-peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
