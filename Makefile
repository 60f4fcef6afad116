# `make` lists the targets. .ci/bootstrap holds the logic of the set-up.

SHELL := /bin/bash

# STACK=reverb: Python 3.11 with TensorFlow 2.15 and Reverb, in .venv-reverb.
export STACK ?=
BIN := .venv$(STACK:%=-%)/bin
PYTHON_BIN := $(BIN)/python

# The experiment of `make train`; ARGS are further flags of qwr_tf.train.
GIN ?= mujoco_100k.gin
ARGS ?=

# Processes that run the tests; each needs 2 GB or more.
WORKERS ?= 2

# TensorFlow says nothing, and a test worker keeps to one core: two workers
# with a thread pool each would fight over the cores.
export TF_CPP_MIN_LOG_LEVEL ?= 3
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 \
  TF_NUM_INTEROP_THREADS=1
PYTEST := $(PYTHON_BIN) -m pytest -c tests/pytest.ini -n $(WORKERS) --dist worksteal

# Tests whose numbers come from the processor's kernels.
NUMERIC := $(patsubst %,tests/%,ops networks minibatches) \
  $(patsubst %,tests/%_test.py,training/bad_batch agents/qwr_agent agents/family)

SMOKE := $(patsubst %,tests/%,ops networks config replay serving) \
  $(patsubst %,tests/agents/%_test.py,qwr_agent tf_agents_integration)

LINTED := setup.py $(wildcard qwr_tf export tests benchmarks examples)

.PHONY: help setup train test test-fast test-numerics test-smoke audit format \
  lint docs docs-test docs-test-fast notebooks serving-check dist

help:
	@echo 'make setup                      environment only (.venv)'
	@echo 'make train [GIN=file] [ARGS=…]  set-up, then train; GIN=$(GIN)'
	@echo 'make test [WORKERS=n]           set-up, format, lint, types, tests'
	@echo 'make test-fast                  set-up, then all but the slow tests'
	@echo 'make test-numerics              set-up, then numbers on other kernels'
	@echo 'make STACK=reverb test-smoke    the older stack: its set-up, a sample'
	@echo 'make docs                       the site, in build/site'
	@echo 'make docs-test                  links and every block of the site'
	@echo 'make docs-test-fast             those of README and the tutorials'
	@echo 'make serving-check              exports under KServe, Triton, Node'
	@echo 'make dist                       wheel and sdist, checked'
	@echo 'make audit                      known vulnerabilities of the locks'
	@echo 'make format                     rewrite the files to the style'
	@echo 'make lint                       set-up, format check, lint, types'

setup:
	@.ci/bootstrap

train: setup
	$(PYTHON_BIN) -m qwr_tf.train --gin_file=$(GIN) $(ARGS)

format: setup
	$(PYTHON_BIN) -m ruff check --fix-only --quiet $(LINTED)
	$(PYTHON_BIN) -m ruff format $(LINTED)

lint: setup
	@echo '== format'
	@$(PYTHON_BIN) -m ruff format --check $(LINTED)
	@echo '== lint'
	@$(PYTHON_BIN) -m ruff check $(LINTED)
	@echo '== types'
	@$(PYTHON_BIN) -m mypy --config-file .ci/mypy.ini
	@echo '== rooms'
	@$(BIN)/lint-imports .ci/importlinter.ini --no-cache --no-logo

test: lint
	@echo '== tests'
	@$(ONE_THREAD) $(PYTEST) tests

test-fast: setup
	@$(ONE_THREAD) $(PYTEST) -m 'not slow' tests

# With STACK=reverb: the code is the same, and Reverb is there.
test-smoke: setup
	@echo "== a sample of the tests, $$($(PYTHON_BIN) -V)"
	@$(ONE_THREAD) $(PYTEST) -m 'not slow' $(SMOKE)
	@$(ONE_THREAD) $(PYTEST) tests/distributed tests/old_stack_test.py

# Asks PyPI's database of vulnerabilities about both locks; needs the network.
# --strict: a package that could not be looked up is an error.
audit: setup
	@for lock in lock-py31*.txt; do echo "== $$lock"; sed 's/ *;.*//' $$lock | \
	  $(BIN)/uvx pip-audit --strict --no-deps --disable-pip -r /dev/stdin || \
	  exit; done

# As without oneDNN, and as on processors without AVX-512. TensorFlow asks the
# processor, not oneDNN, whether oneDNN can do bfloat16: no such test there.
test-numerics: setup
	@echo '== numbers without oneDNN'
	@$(ONE_THREAD) TF_ENABLE_ONEDNN_OPTS=0 $(PYTEST) $(NUMERIC)
	@echo '== numbers with AVX2'
	@$(ONE_THREAD) ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -k 'not bfloat16' $(NUMERIC)

# mkdocs and notebooks stand beside the lock of the tests.
DOCS := $(BIN)/.docs_lock
$(DOCS): lock-docs.txt | setup
	@echo 'installing the tools of the documentation'
	@VIRTUAL_ENV=$(dir $(BIN)) $(BIN)/uv pip install --quiet --no-deps -r $< || \
	  $(PYTHON_BIN) -m pip install --quiet --no-deps -r $<
	@cp $< $@

docs: setup $(DOCS)
	@NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build --strict
	@echo 'build/site/index.html'

# Executes notebooks in their places, outputs included.
notebooks: setup $(DOCS)
	@$(ONE_THREAD) $(BIN)/jupyter execute --inplace docs/tutorials/*.ipynb

docs-test: setup $(DOCS)
	@$(ONE_THREAD) $(PYTEST) tests/docs/whole_pages.py

docs-test-fast: setup $(DOCS)
	@$(ONE_THREAD) $(PYTEST) tests/docs/whole_pages.py \
	  -k 'README or tutorials or notebooks or links'

# Other projects' servers, from PyPI and npm, into build/serving. Two versions
# of one policy: as it was after 1000 interactions, and trained.
SERVED := build/serving/run
serving-check: setup
	@rm -rf $(SERVED)
	@for n in 1000 8000; do $(PYTHON_BIN) -m qwr_tf train --env=CartPole-v1 \
	  --interactions=$$n --root_dir=$(SERVED) && $(PYTHON_BIN) -m qwr_tf \
	  export --root_dir=$(SERVED) --output=$(SERVED)/versions || exit; done
	@$(PYTHON_BIN) -m qwr_tf export --root_dir=$(SERVED) --format=onnx
	@$(PYTHON_BIN) -m benchmarks.serving.check --policy=$(SERVED)/versions \
	  --onnx=$(SERVED)/onnx/1

dist: setup
	@rm -rf dist
	@$(PYTHON_BIN) -m build --no-isolation >/dev/null
	@$(BIN)/uvx twine check --strict dist/*
