# Commands: `make help`, from the ## behind targets. Each makes its own .venv first; tests and checks add envs/dev.txt to it.
.DEFAULT_GOAL := help
CONFIG ?=
PROFILE ?=
PYTHON ?= python3
one_word = '$(subst ','\'',$(1))'
quoted = $(foreach word,$(1),$(call one_word,$(word)))
own_make = $(MAKE) --silent --no-print-directory $(1) CONFIG=$(call one_word,$(subst $$,$$$$,$(2)))
CONFIGFILES = $(if $(CONFIG),--configfile config/scenarios.yaml config/config.yaml $(call quoted,$(CONFIG)))
ifneq ($(CONFIG),)
  $(if $(wildcard $(CONFIG)),,$(error CONFIG=$(CONFIG): there is no such file))
endif
# As workflow/hyperkv/base/surroundings.py has it for the stages: Snakemake and pip need a cache folder that can be written, and a
# user with a name, before any of our code runs.
OWN_HOME = $(CURDIR)/results/cache
CACHE_CAN_BE_MADE = { test -n "$$XDG_CACHE_HOME" || test -d "$$HOME"; } && \
  near="$${XDG_CACHE_HOME:-$$HOME/.cache}/snakemake/snakemake/source-cache" && \
  { while ! test -e "$$near" && ! test -L "$$near"; do near=$$(dirname "$$near"); done; } && \
  test -d "$$near" && test -w "$$near" && test -x "$$near" && echo yes
ifeq ($(shell $(CACHE_CAN_BE_MADE)),)
  export XDG_CACHE_HOME := $(OWN_HOME)
endif
ifeq ($(shell test -d "$$HOME" && echo yes),)
  export HOME := $(shell mkdir -p "$(OWN_HOME)" && echo "$(OWN_HOME)")
endif
ifeq ($(shell id -un 2> /dev/null),)
  export LOGNAME ?= uid$(shell id -u)
endif
# At every start Snakemake's plugin asks a Slurm that is installed, and waits nine seconds where none answers.
ifeq ($(PROFILE),)
  export SLURM_CONF ?= /dev/null
endif
# A PYTHON that is named is the one to use: a .venv of another minor version gives way.
MINOR = import sys; print(sys.version_info[:2])
ifeq ($(origin PYTHON),command line)
  ifneq ($(wildcard .venv/bin/python),)
    ifneq ($(shell .venv/bin/python -c '$(MINOR)'),$(shell $(PYTHON) -c '$(MINOR)'))
      OTHER_VENV = .venv/other
    endif
  endif
endif
# Of a pack (run/pack.py): packages, and xxhash.h for what is compiled, come from it and from nowhere else.
ifneq ($(wildcard wheels/*.whl),)
  export PIP_NO_INDEX := 1
  export PIP_FIND_LINKS := wheels
  export CPATH := $(CURDIR)/wheels$(addprefix :,$(CPATH))
endif
ACTIVATE = . .venv/bin/activate &&
# A file of what a module prints, and the one that was there when it fails.
printed = $(ACTIVATE) python -m workflow.hyperkv.$(1) > $(2).new && mv $(2).new $(2)
# What --configfile names Snakemake reads before the Snakefile, which looks at the others, and it has tracebacks for what
# cannot be read.
CHECK_CONFIG = $(if $(CONFIG),python -m workflow.hyperkv.config.config_text config/scenarios.yaml config/config.yaml $(call quoted,$(CONFIG)) &&)
SNAKEMAKE = $(ACTIVATE) $(CHECK_CONFIG) snakemake
SHARED_BUILDS = $(if $(SNAKEMAKE_OUTPUT_CACHE),--cache compile_kvrocks compile_patched_kvrocks fetch_wheels)
QUIET = --quiet rules host reason
OPTIONS = $(SHARED_BUILDS) --cores all --keep-going --scheduler greedy $(QUIET) $(CONFIGFILES)
# A profile says what runs at once and where, and is not to be told by this machine's cores.
RUN_OPTIONS = $(if $(PROFILE),$(SHARED_BUILDS) --workflow-profile $(call quoted,$(PROFILE)) $(QUIET) $(CONFIGFILES),$(OPTIONS))

.PHONY: help run foretell stores layers tune array ladder pairs bits decide kvrocks kvrocks-patched kvrocks-deps pack test test-engine test-array test-report test-slurm soak report bench regret keep docs site lint clean

help:
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "CONFIG=FILE goes on top of config/config.yaml; PROFILE=workflow/profiles/slurm runs on a cluster. Exit status: 0 done,"
	@echo "2 not: the last lines say why. docs/stages.md has those of snakemake and of a single stage."

##@ Measure
run: .venv/installed ## everything in config/config.yaml, or CONFIG=FILE on top of it; a second time, nothing
	@$(SNAKEMAKE) $(RUN_OPTIONS)
	@$(call own_make,results/report.html,$(CONFIG))
	@cat results/answer.txt

foretell: .venv/installed ## what CONFIG's GPU will serve and how long measuring takes, without one; GBPS=1.6 of the disk, WRITE_GBPS=1.3 where it writes
	@$(ACTIVATE) python -m workflow.hyperkv.run.foretell --gbps $(call one_word,$(or $(GBPS),$(error GBPS=1.6 is the disk, 10^9 bytes/s))) \
	  $(if $(WRITE_GBPS),--write-gbps $(call one_word,$(WRITE_GBPS))) --out results/foretold.csv --config config/scenarios.yaml config/config.yaml $(call quoted,$(CONFIG))

stores: .venv/installed ## every store alone, without an engine
	@$(SNAKEMAKE) stores $(RUN_OPTIONS)
	@echo "Table: results/tables/stores.csv   Figure: results/figures/stores.svg, .png"

layers: .venv/installed ## where the time of a SET and a GET goes
	@$(SNAKEMAKE) layers $(RUN_OPTIONS)
	@cat results/tables/layers.txt
	@echo "Table: results/tables/layers.csv   Figure: results/figures/layers.svg, .png"

decide: .venv/installed ## costs and the verdicts on all claims
	@$(SNAKEMAKE) decide $(OPTIONS)
	@cat results/tables/claims.txt
	@echo "Tables: results/tables/claims.csv, cost.csv, cost_sensitivity.csv   Figure: results/figures/cost.svg, .png"

tune: .venv/installed ## searches the settings of scenarios; CONFIG=config/experiments/tune.yaml
	@$(SNAKEMAKE) tune $(OPTIONS)
	@echo "Search: results/tune   Table: results/tables/tune.csv   Figure: results/figures/tune.svg, .png"

pairs: override CONFIG := $(strip config/experiments/pairs.yaml $(CONFIG))
pairs: .venv/installed ## which pairs of vLLM and LMCache give right answers, on a CPU
	@$(SNAKEMAKE) pairs $(OPTIONS)
	@echo "Table: results/tables/pairs.csv   Records: results/pairs"

bits: override CONFIG := $(strip config/experiments/pairs.yaml $(CONFIG))
bits: .venv/installed ## what a format of stored KV costs and buys, with a real small model on a CPU
	@$(SNAKEMAKE) bits $(OPTIONS)
	@echo "Table: results/tables/bits.csv   Figure: results/figures/bits.svg, .png"

array: .venv/installed ## which array pays before one buys it; CONFIG=config/experiments/array.yaml
	@$(SNAKEMAKE) array $(OPTIONS)
	@cat results/tables/array.txt
	@echo "Table: results/tables/array.csv   Figure: results/figures/array.svg, .png"

ladder: .venv/installed ## step by step to the fastest one; CONFIG=config/experiments/ladder.yaml
	@$(SNAKEMAKE) ladder $(OPTIONS)
	@echo "Table: results/tables/ladder.csv   Figures: results/figures/ladder.svg, before_after.svg, .png"

##@ Build
kvrocks: .venv/installed ## Kvrocks, about half an hour, once; later runs measure it too
	@$(SNAKEMAKE) build_kvrocks $(RUN_OPTIONS)
	@cat results/build/kvrocks/kvrocks.json

kvrocks-patched: .venv/installed ## the same source with patches for large values
	@$(SNAKEMAKE) build_patched_kvrocks $(RUN_OPTIONS)
	@cat results/build/kvrocks-patched/kvrocks.json

kvrocks-deps: .venv/installed ## downloads what Kvrocks is built from
	@$(SNAKEMAKE) fetch_kvrocks_dependencies $(RUN_OPTIONS)
	@echo "compile_kvrocks takes it from results/build/kvrocks-deps; for another machine it is a kvrocks.deps_dir"

PART_MB ?= 1000
pack: .venv/installed ## all that CONFIG needs on a machine without internet: results/pack, in files of PART_MB=1000
	@$(SNAKEMAKE) downloads $(OPTIONS)
	@$(ACTIVATE) python -m workflow.hyperkv.run.pack --config config/scenarios.yaml config/config.yaml $(call quoted,$(CONFIG)) \
	  --part-mb $(call one_word,$(PART_MB)) --out results/pack

##@ Keep and clean
report: .venv/installed ## Snakemake's self-contained report, results/report.html
	@$(SNAKEMAKE) --report results/report.html $(OPTIONS)
	@echo results/report.html

results/report.html: results/answer.txt results/tables/summary.txt $(wildcard results/figures/*.svg)
	@$(SNAKEMAKE) --report $@ $(OPTIONS) --quiet all

# What lies in results as a folder of the repository, with the configuration of the run: make keep KEEP=laptop/2026-11-28
keep: .venv/installed ## what was measured, as a folder of results/reference; KEEP=MACHINE/DATE
	@$(ACTIVATE) python -m workflow.hyperkv.run.keep_run --config config/scenarios.yaml config/config.yaml $(call quoted,$(CONFIG)) \
	  --command $(call one_word,make run$(if $(CONFIG), CONFIG="$(CONFIG)")) --out $(call one_word,results/reference/$(or $(KEEP),$(error KEEP=MACHINE/DATE names the folder)))

clean: ## removes results, except results/reference, builds and the array's record
	rm -rf results/array/baseline.jsonl* results/profile results/predict results/sweep results/tune results/pairs results/bits results/texts results/tables results/figures \
	  results/logs results/data results/summary.json results/answer.txt results/report.html results/regret.csv results/regret.txt results/report results/site results/foretold.csv results/recommended results/cache results/pack .snakemake

##@ Test and develop
# A file's tests stay in one process, with the servers that they share; tests/conftest.py says how many processes there are.
test: .venv/dev ## the tests
	@$(ACTIVATE) python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The real engine on a CPU, with a real small model: it makes both environments first (about 5 GB). Every connector of the newest pair.
NEWEST = vllm-0.32.0-lmcache-0.5.6
test-engine: .venv/dev ## the real engine on a CPU (makes environments of 5 GB)
	@$(call own_make,run,config/engine-cpu.yaml tests/engines/run.yaml $(CONFIG))
	@$(call own_make,pairs-newest,config/experiments/pairs.yaml tests/engines/pairs.yaml $(CONFIG))
	@$(ACTIVATE) python -m pytest -m engine -n 2 --dist loadfile tests/engines tests/pairs/test_real_pairs.py

.PHONY: pairs-newest
pairs-newest: .venv/installed
	@$(SNAKEMAKE) results/pairs/$(NEWEST).jsonl $(OPTIONS)

test-array: .venv/dev ## the array's stages in a virtual machine
	@$(ACTIVATE) python -m pytest -m vm -rs tests/array_vm

test-report: .venv/dev ## the page in a real browser
	@$(ACTIVATE) python -m pytest -m browser -rs tests/report/test_report_browser.py

test-slurm: .venv/dev ## the workflow on a Slurm of this machine, as root
	@$(ACTIVATE) python -m pytest -m slurm -rs tests/slurm

# Random faults for as long as you like; of nobody's default. SEED=… repeats one, HALF=stores or workflow does one half.
MINUTES ?= 60
HALF ?= all
soak: .venv/dev ## random faults; MINUTES=60
	@$(ACTIVATE) python -m tests.soak $(HALF) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ROUND),--round $(ROUND)) $(if $(KILLS),--kills $(KILLS))

bench: .venv/installed ## our connectors beside other tools, loads beside saves, reads beside fio, and a cluster of 1 to 8 nodes
	@$(ACTIVATE) python -m workflow.hyperkv.profile.bench
	@$(ACTIVATE) python -m workflow.hyperkv.profile.bench_saves
	@$(ACTIVATE) python -m workflow.hyperkv.array.bench_reads
	@$(ACTIVATE) python -m workflow.hyperkv.profile.clusters.bench_cluster

regret: .venv/installed ## what the gate costs against the better of recompute and loading all, in 200 modelled cells
	@$(ACTIVATE) python -m workflow.hyperkv.engines.replay.regret --out results/regret.csv --text results/regret.txt

docs: .venv/dev ## writes config/README.md, the schemas, docs/results and the site
	@$(call printed,config.docs,config/README.md)
	@$(call printed,records.columns,workflow/schemas/columns.yaml)
	@$(call printed,config.schema,workflow/schemas/config.schema.json)
	@$(call printed,report.summary,workflow/schemas/summary.schema.json)
	@$(SNAKEMAKE) docs --forcerun make_run_page $(OPTIONS)
	@$(ACTIVATE) python -m workflow.hyperkv.report.front
	@$(ACTIVATE) python -m workflow.hyperkv.report.pairs_page
	@$(ACTIVATE) python -m workflow.hyperkv.report.predicted_page
	@$(call own_make,site,$(CONFIG))

site: .venv/dev ## the documentation, results/site/index.html
	@$(ACTIVATE) NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo results/site/index.html

lint: .venv/dev ## format, imports, types, rules
	@$(ACTIVATE) ruff check . && ruff format --check . && lint-imports --no-logo && mypy && snakefmt --check Snakefile workflow/rules && snakemake --lint

.PHONY: .venv/other
.venv/other:

.venv/installed: requirements.txt $(OTHER_VENV)
	@$(PYTHON) -c 'import sys; sys.exit("HyperKV needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -z "$(OTHER_VENV)" -a -x .venv/bin/python || $(PYTHON) -m venv --clear .venv
	@$(ACTIVATE) pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/installed envs/dev.txt
	@$(ACTIVATE) pip install --quiet --disable-pip-version-check -r envs/dev.txt
	@touch $@
