GPU ?= cpu
# GPU=P100 is p100.
override GPU := $(shell echo '$(GPU)' | tr '[:upper:]' '[:lower:]')
EPOCHS ?= 1
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready-$(GPU)
# Targets that work with any torch build use the environment that is there, whichever GPU it was made for.
ANY_READY := $(firstword $(wildcard $(VENV)/.ready-*) $(READY))

KNOWN_GPUS := $(patsubst constraints/%.txt,%,$(wildcard constraints/*.txt))
ifeq ($(filter $(GPU),$(KNOWN_GPUS)),)
$(error unknown GPU `$(GPU)`; the known ones are $(KNOWN_GPUS))
endif

.DEFAULT_GOAL := help
.PHONY: setup demo test test-long audit bench bench-request bench-data bench-read bench-startup bench-metrics
.PHONY: bench-calibration bench-audit bench-predict bench-ray bench-serve bench-speed bench-gpu ablate chart compare
.PHONY: estimate style clean help

setup: $(READY)  ## make .venv with the packages and the torch build for GPU=cpu|p100|v100|t4|ampere|hopper|blackwell [TORCH_INDEX=URL]

# Of an index such as that of torch's CPU wheels, which lack gigabytes of CUDA, comes torch and nothing else; the next
# command finds it installed. An environment that has a torch already keeps it: make clean comes first.
FROM_TORCH_INDEX = $(if $(TORCH_INDEX),$(PIP_INSTALL) --no-deps --index-url '$(TORCH_INDEX)' torch -c constraints/$*.txt)
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

REQUIREMENTS := requirements.txt $(patsubst %,requirements-%.txt,audit cloud explain onnx openvino ray serve dev)
$(VENV)/.ready-%: $(REQUIREMENTS) constraints/%.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@! grep -q '^torch==2\.7\.' constraints/$*.txt || $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || \
		{ echo "torch 2.7.1, the build for $*, has no wheels for Python 3.14 or newer:" \
		"make $(MAKECMDGOALS) GPU=$* PYTHON=python3.13"; exit 1; }
	@rm -f $(VENV)/.ready-*
	$(PYTHON) -m venv $(VENV)
	$(FROM_TORCH_INDEX)
	$(PIP_INSTALL) $(REQUIREMENTS:%=-r %) -c constraints/$*.txt
	@touch $@

# The run itself raises the number of threads to that of the cores; without the flag, Accelerate warns of its guess.
demo: $(ANY_READY)  ## train on the sample: real comments, a real model, no Hub
	$(VENV)/bin/accelerate launch --quiet --num_cpu_threads_per_process 1 \
		--config_file accelerate_configs/cpu.yaml run_toxicity.py recipes/sample.yaml

# A client that the service is tested with. Without npm, or where its registry cannot be reached, that test is skipped.
JAVASCRIPT := tests/serve/javascript
NPM_CI = npm ci --prefix $(JAVASCRIPT) --ignore-scripts --no-audit --no-fund --silent --fetch-retries 0 --fetch-timeout 20000
$(JAVASCRIPT)/node_modules/.package-lock.json: $(JAVASCRIPT)/package-lock.json
	@! command -v npm >/dev/null || { $(NPM_CI) && touch $@; } || \
		echo "npm ci failed: the test of the JavaScript client is skipped" >&2

test: $(ANY_READY) $(JAVASCRIPT)/node_modules/.package-lock.json  ## run the tests; they need no network
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

test-long: $(ANY_READY)  ## run the tests that take minutes: kills, launches, full disks
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -m long

# pip-audit has an environment of its own, so that its dependencies are not audited too.
AUDIT := $(VENV)/audit
audit: $(ANY_READY)  ## look up the installed packages among known vulnerabilities; needs the network
	@test -x $(AUDIT)/bin/pip-audit || { $(VENV)/bin/python -m venv $(AUDIT) && \
		$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@$(VENV)/bin/python .ci/audit.py $(AUDIT)/bin/pip-audit

bench-startup: $(ANY_READY)  ## measure how soon --help and --dry_run answer against importing all that a run needs
	$(VENV)/bin/python -m benchmarks.startup

bench-data: $(ANY_READY)  ## measure tokenising against the bare tokenizer, datasets.map and one row at a time
	$(VENV)/bin/python -m benchmarks.tokenization

bench-read: $(ANY_READY)  ## measure reading a CSV of Kaggle's shape against the former way, pandas and datasets
	$(VENV)/bin/python -m benchmarks.reading $(READ_OPTIONS)

bench-metrics: $(ANY_READY)  ## measure the metrics of 500,000 rows with nine identities, of one label and of seven, against scikit-learn
	$(VENV)/bin/python -m benchmarks.metrics

MODEL ?= runs/sample

bench-calibration: $(ANY_READY)  ## measure whether thresholds and calibration hold on other comments [MODEL=runs/sample]
	$(VENV)/bin/python -m benchmarks.calibration --model $(MODEL)

bench-audit: $(ANY_READY)  ## measure how many labels that were turned over an audit finds, by four trainings of 3,000 comments
	$(VENV)/bin/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml -m benchmarks.label_errors --output runs/audit

# Contenders that are not installed are left out. To have them all, before: $(VENV)/bin/pip install -r requirements-bench.txt
bench-predict: $(ANY_READY)  ## measure scoring against OpenVINO, CTranslate2, ONNX Runtime, pipeline() [MODEL=runs/sample]
	$(VENV)/bin/python -m benchmarks.predict --model $(MODEL) $(PREDICT_OPTIONS)

bench-ray: $(ANY_READY)  ## measure scoring on Ray against two processes: rate, bytes, small shards, memory [MODEL=runs/sample]
	$(VENV)/bin/python -m benchmarks.ray --model $(MODEL) $(RAY_OPTIONS)

bench-serve: $(ANY_READY)  ## measure the service under load against the scoring loop and against no batching [MODEL=runs/sample]
	$(VENV)/bin/python -m benchmarks.serve --model $(MODEL) $(SERVE_OPTIONS)

bench-speed: $(ANY_READY)  ## measure training and scoring against the HF Trainer, pipeline() and others [SPEED_OPTIONS="--labels 7"]
	$(VENV)/bin/python -m benchmarks.speed $(SPEED_OPTIONS)

bench-gpu: $(ANY_READY)  ## check and measure this package on the GPU of this machine, 8 minutes; no network [GPU_OPTIONS=...]
	$(VENV)/bin/python -m benchmarks.gpu $(GPU_OPTIONS)

ablate: $(ANY_READY)  ## measure each training option: AUC of three seeds, and time; hours on two cores
	$(VENV)/bin/python -m benchmarks.ablate $(ABLATE_OPTIONS)

chart: $(ANY_READY)  ## draw docs/benchmarks.png from the measured numbers in docs/
	$(VENV)/bin/python -m benchmarks.chart

# Without DATA, the CPU runs the sample, in minutes.
ifneq ($(DATA),)
BENCH := recipes/reference.yaml --train_file "$(DATA)"
else ifeq ($(GPU),cpu)
BENCH := recipes/sample.yaml
endif
BENCH_ROWS = $(if $(ROWS),--max_train_samples $(ROWS) --max_eval_samples $$(( $(ROWS) / 2 )))
OTHER_GPU = $(if $(ALLOW_OTHER_GPU),--allow_other_gpu)

# Checked before an environment of gigabytes is installed.
bench-request:
	@$(if $(BENCH),,echo "error: GPU=$(GPU) runs the published protocol: give Kaggle's file, DATA=train.csv" >&2; exit 2)
	@$(if $(DATA),test -e "$(DATA)" || { echo "error: there is no file $(DATA)" >&2; exit 2; })
ifneq ($(GPU),cpu)
	@nvidia-smi -L >/dev/null 2>&1 || { echo "error: $(GPU) was asked for, and this machine has no GPU that nvidia-smi" \
		"knows of. Run it on one that has, or on the processor: make bench GPU=cpu" >&2; exit 2; }
endif

# Of several cards the first, unless CUDA_VISIBLE_DEVICES names others; an empty one hides them all.
VISIBLE := CUDA_VISIBLE_DEVICES="$${CUDA_VISIBLE_DEVICES-0}"

bench: bench-request $(READY)  ## run the published protocol on GPU=p100 DATA=train.csv [EPOCHS=2] [ROWS=...], then print the table
	$(VISIBLE) $(VENV)/bin/python -m toxicity.hardware.preflight --gpu $(GPU) $(OTHER_GPU)
	$(VISIBLE) $(VENV)/bin/accelerate launch --quiet --config_file accelerate_configs/$(GPU).yaml \
		--num_cpu_threads_per_process 1 run_toxicity.py $(BENCH) \
		--overwrite_cache --gpu $(GPU) $(OTHER_GPU) --num_train_epochs $(EPOCHS) $(BENCH_ROWS) \
		--output_dir runs/$(GPU)-$(EPOCHS)ep-$$(date +%Y%m%d-%H%M%S)
	$(VENV)/bin/python -m toxicity.bench compare

compare: $(ANY_READY)  ## print the table and conclusions of all runs beside the published ones, and draw the picture
	@$(VENV)/bin/python -m toxicity.bench compare

estimate: $(ANY_READY)  ## estimate time and price of a run: GPU=p100 [ROWS=...] [EPOCHS=2] [PRICE_PER_HOUR=1.46]
	@$(VENV)/bin/python -m toxicity.bench estimate --gpu $(GPU) --epochs $(EPOCHS) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(PRICE_PER_HOUR),--price_per_hour $(PRICE_PER_HOUR))

style: $(ANY_READY)  ## check and format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15
