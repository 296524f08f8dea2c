# Two commands: `make demo` and `make test`. Both set up the environment where it is missing.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# what is installed besides: dev has all that the tests need but Ray, which is 240 MB (EXTRAS=dev,ray)
EXTRAS ?= dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test clients sanitize cuda-on-cpu emulated-ascending emulated-descending cuda-report gpu-check lint typecheck check install wheel clean help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

install: $(VENV)/.installed ## the environment with everything in it

# torch comes first and alone: the build of this package uses the torch that is there, never one of its own
$(VENV)/.installed: pyproject.toml setup.py constraints.txt kernels/build.py $(shell find kernels/common kernels/cpu kernels/cuda -type f)
	$(PYTHON) -c 'import sys; sys.exit("embpress needs Python 3.10 or later") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch setuptools wheel ninja
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[cpu,$(EXTRAS)]' \
	  || $(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	touch $@

demo: install ## compare full tables, baselines and methods on synthetic click data and write a report
	$(BIN)/embpress compare --ratio 16 --out runs/demo

# a process a core: kernels that take several threads set their number themselves
test: install ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal

# their packages stay apart from those of `make test`, on top of which they are installed
CLIENTS := build/clients
SITE = $$($(1) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
clients: install ## models of transformers, Lightning, TorchRec, PyG and deepctr-torch, with compressed tables
	test -x $(CLIENTS)/bin/python || $(BIN)/python -m venv $(CLIENTS)
	echo "import site; site.addsitedir('$(call SITE,$(BIN)/python)')" > $(call SITE,$(CLIENTS)/bin/python)/shared.pth
	$(CLIENTS)/bin/python -m pip install --quiet -c constraints.txt 'embpress[clients]'
	$(CLIENTS)/bin/python -m pip install --quiet -c constraints.txt --no-deps torchrec deepctr-torch
	$(CLIENTS)/bin/python -m pytest -q -p no:cacheprovider tests/clients

# the native ops with AddressSanitizer and UBSan; Python itself leaks by design
sanitize: install ## the kernels' tests on a build with AddressSanitizer and UBSan
	$(BIN)/python kernels/build.py --sanitize --to build/sanitize
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  EMBPRESS_LIBRARY=build/sanitize/_C.abi3.so ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/python -m pytest -q -p no:cacheprovider $(addprefix tests/kernels/ops/test_,tt_embedding_bag.py row_cache.py hostile_caches.py checks.py narrow_cores.py robe.py compositional.py mlet.py update_rows.py update_dense.py coded_rows.py columns.py rows_on_cpu.py recipe_lookup.py robe_bags.py bags_on_cpu.py)

# twice: threads in ascending order and tensor trains of small batches by themselves, then threads in descending order and
# tensor trains through the grouped route in small tiles; what an op promises besides its values is asked once
EMULATED = LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
  OMP_NUM_THREADS=1 EMBPRESS_LIBRARY=build/cuda_on_cpu/_C.abi3.so ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
cuda-on-cpu: install ## the kernels' tests on the CUDA kernels, compiled as CPU code with sanitizers; needs no GPU
	rm -rf build/cuda_on_cpu
	$(BIN)/python kernels/build.py --cuda-on-cpu --sanitize --coverage --to build/cuda_on_cpu
	$(MAKE) --no-print-directory -j2 --output-sync=target emulated-ascending emulated-descending

emulated-ascending:
	$(EMULATED) $(BIN)/python -m pytest -q -p no:cacheprovider tests/kernels/ops

emulated-descending:
	$(EMULATED) EMBPRESS_TT_ROUTE=grouped EMBPRESS_SHARED_BYTES=49152 EMBPRESS_THREADS=backwards \
	  $(BIN)/python -m pytest -q -p no:cacheprovider tests/kernels/ops --ignore tests/kernels/ops/test_promises.py

# COUNTED=build/cuda_on_cpu takes the lines that `make cuda-on-cpu` has run, instead of running the tests once more
cuda-report: install ## what nvcc makes of the CUDA kernels, and which of their lines the tests run; needs no GPU
	PYTHONPATH=tests/tools $(BIN)/python -m cuda_report $(if $(COUNTED),--counted $(COUNTED))

# installs nothing: on a machine with a GPU its own Python has torch with CUDA, and what is downloaded is nothing
gpu-check: ## everything that only a GPU can show: build, tests, compute-sanitizer, benchmarks; writes runs/gpu-check
	$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/tools/gpu_check

lint: install ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the folders' mapping to embpress.*, so links stand in for it
typecheck: install ## types
	mkdir -p build/typecheck/embpress
	for part in __init__.py py.typed compressors kernels dlrm reports cli; do ln -sfn ../../../$$part build/typecheck/embpress/$$part; done
	MYPYPATH=build/typecheck $(BIN)/mypy -p embpress

check: lint typecheck test ## everything that CI runs but the demo

wheel: install ## a wheel in dist/
	$(BIN)/pip wheel --quiet --no-build-isolation --no-deps -w dist .

clean: ## remove the environment and what was built; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache kernels/*.so
