# SPDX-License-Identifier: Apache-2.0
# make help lists the targets. Everything runs in .venv, which scripts/setup.sh makes and keeps up to date.

PY := .venv/bin/python
# These want a model or a folder: make bench-memories ARGS="model.onnx".
GIVEN := aarch64 agreement hops memories steps
BENCHES := $(filter-out $(GIVEN:%=bench/bench_%.py),$(sort $(wildcard bench/bench_*.py)))

# Sizes of `make fuzz`: hours. make fuzz FUZZ_DIFFERENTIAL="--graphs 100 --seed 2" does less, or something else.
FUZZ_FRONTEND ?= --mutants 100000
FUZZ_PLANNER ?=
FUZZ_DIFFERENTIAL ?= --graphs 5000 --qemu 100
FUZZ_OPTIONS ?= --graphs 2000

CPPCHECK := cppcheck --std=c99 --quiet --error-exitcode=1 --enable=warning,performance,portability,style \
	--suppressions-list=scripts/cppcheck.txt -I runtime_c -I runtime_c/firmware

TIDY := clang-tidy --quiet --config-file=.clang-tidy --warnings-as-errors='*' --header-filter='runtime_c/.*'
TIDIED := $(addprefix runtime_c/,firmware/main.c firmware/mmcount.c firmware/port_posix.c firmware/port_stdio.c mmcc_simd.h mmcc_floats.h mmcc_winograd.h mmcc_halves.h mmcc_fp16.h mmcc_math.h mmcc_moves.h mmcc_pages.h mmcc_parameters.h)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-train demo-llm demo-stream test check lint docs bench fuzz clean

help: ## this list
	@sed -n 's/^\([a-z%-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: ## .venv, Python packages, cross compilers and QEMU (apt, where that is allowed)
	@scripts/setup.sh

demo: setup ## compile a digit classifier for a Cortex-M4 under a RAM limit, verify it, run it in QEMU
	@$(PY) examples/digits/demo.py

demo-train: setup ## the digit classifier fine-tunes itself on an emulated Cortex-M4, in 40 KiB of RAM
	@$(PY) examples/digits/learn.py

demo-llm: setup ## a small language model writes stories on an emulated Cortex-M4, in 32 KiB of RAM
	@$(PY) examples/tiny_llm/write.py

demo-stream: setup ## a network listens to a WAV file on an emulated Cortex-M4, 16 ms a call
	@$(PY) examples/keyword_stream/listen.py

test: setup ## all tests
	@$(PY) -m pytest -n 2 tests

check: lint ## lint, format, types, and the tests that take seconds
	@$(PY) -m pytest -q -n 2 -m quick tests

lint: setup ## lint, format, types; clang-format, cppcheck, clang-tidy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/clang-format --dry-run -Werror $(wildcard runtime_c/*.h runtime_c/firmware/*.[ch] runtime_c/serial/*.[ch] $(addprefix tests/firmware/,*.c */*.c))
	@if command -v cppcheck >/dev/null; then $(CPPCHECK) $(wildcard runtime_c/*.h runtime_c/firmware/*.c runtime_c/serial/*.c); \
	else echo "lint: cppcheck is not installed"; test "$$CI" != true; fi
	@if command -v clang-tidy >/dev/null; then \
		$(TIDY) $(TIDIED) -- -std=gnu99 -x c -O2 -march=x86-64-v3 --target=x86_64-linux-gnu -I runtime_c -I runtime_c/firmware 2>/dev/null; \
	else echo "lint: clang-tidy is not installed"; test "$$CI" != true; fi
	@$(PY) -m pyright --pythonpath $(PY)

docs: setup ## the documentation as a site, in build/site; links that lead nowhere are errors
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet

bench: setup ## every bench/bench_*.py that wants no arguments
	@test -n "$(BENCHES)" || echo "bench/ has no bench_*.py"
	@for script in $(BENCHES); do echo "== $$script"; $(PY) $$script || exit 1; done

bench-%: setup ## one of them: bench-kernels, bench-networks, bench-boards, bench-host, bench-placement, bench-plans, bench-least, bench-papers, bench-sequences, bench-threads, bench-training
	@$(PY) bench/bench_$*.py $(ARGS)

fuzz: setup ## random files, plans and models against what they must give; findings go to build/
	@failed=0; \
	for what in 'frontend $(FUZZ_FRONTEND)' 'planner $(FUZZ_PLANNER)' 'differential $(FUZZ_DIFFERENTIAL)' \
		'options $(FUZZ_OPTIONS)'; do \
		echo "== fuzz_$$what"; $(PY) bench/fuzz_$${what%% *}.py $${what#* } || failed=1; \
	done; exit $$failed

fuzz-%: setup ## one of them: fuzz-frontend, fuzz-planner, fuzz-differential, fuzz-options, with ARGS="..."
	@$(PY) bench/fuzz_$*.py $(ARGS)

clean: ## what was built; .venv stays
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
