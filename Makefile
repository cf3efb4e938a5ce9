# make demo: what `partrm predict` needs, then two bundled examples. make test: everything the tests need, then the tests.
# Both need only Python 3.11+, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
# Python compiles what it imports; pip would compile ten times as much.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Each worker begins with one half of the tests in their order, so that most fixtures are built once.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal --jaxtyping-packages=partrm,beartype.beartype
OUT ?= outputs/demo
EXAMPLES := src/partrm/example_images
DRAG_MICROWAVE := --drag 164,170,112,203
DRAG_CABINET := --drag 548,402,473,420

# Python keeps what it has compiled, once for all workers and commands of a test run, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-fast kernels lint docs dist eval-objects fuzz real-files clean

# Re-made whenever the dependencies change.
.venv/pyvenv.cfg: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	rm -rf .venv
	$(PYTHON) -m venv .venv

.venv/made: .venv/pyvenv.cfg
	$(PIP) -e .
	touch $@

# The converter of the extra usd exists for Python before 3.13 alone; its tests are skipped then.
.venv/made-dev: USD = $(shell $(BIN)/python -c 'import sys; print("usd," * (sys.version_info < (3, 13)))')
.venv/made-dev: .venv/pyvenv.cfg
	$(PIP) -e '.[dev,data,eval,robot,train,ray,zero123,sam,export,$(USD)hulls,docs]'
	touch .venv/made $@

# Meshes of real objects, used by `partrm eval --data real` and by the tests of the PartNet-Mobility loader: three wheels
# without the packages they ask for.
eval-objects: .venv/made-eval-objects
.venv/made-eval-objects: .venv/made-dev
	$(PIP) --no-deps gymnasium-robotics metaworld genesis-world
	touch $@

demo: .venv/made
	$(BIN)/partrm predict $(EXAMPLES)/microwave.png $(DRAG_MICROWAVE) --framing canonical --out $(OUT)/microwave
	$(BIN)/partrm predict $(EXAMPLES)/cabinet_photo.jpg $(DRAG_CABINET) --out $(OUT)/cabinet_photo
	@echo "Pictures: $(OUT)/*/before_after.png, $(OUT)/*/motion.mp4, $(OUT)/*/views/"

lint: .venv/made-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# While pyright has one core, the other compiles what else every worker of pytest would: make --jobs=2 test.
kernels: eval-objects
	PYTHONPATH=tests $(BIN)/python tools/compile_kernels.py

test: lint kernels
	$(PYTEST)

# Damaged files by the hundred thousand, in half an hour on two cores.
fuzz: eval-objects
	PYTHONPATH=tests $(BIN)/python tests/fuzz/run.py --seconds 1700 --processes 2 --keep outputs/fuzz

# Every URDF and MuJoCo file of 25 packages (3 GB on disk, none of them needed otherwise), loaded and built. Some wheels are
# for one Python and machine alone; their files are for all.
real-files: outputs/real_files/made
	$(BIN)/python benchmarks/real_files.py outputs/real_files

outputs/real_files/made: .venv/made-dev benchmarks/real_files.txt
	rm -rf outputs/real_files
	$(PIP) --no-deps --only-binary :all: --python-version 3.11 --platform manylinux_2_28_x86_64 \
	    --platform manylinux_2_17_x86_64 --target outputs/real_files -r benchmarks/real_files.txt
	touch $@

# What most changes break first, without evaluation, training, rendered data and the browser: a minute on 2 free cores.
FAST := geometry imaging metrics model objects inference commands/test_console.py test_files.py test_architecture.py test_docs.py
test-fast: .venv/made-dev
	$(PYTEST) $(FAST:%=tests/%)

# The site, readable from disk: site/index.html.
docs: .venv/made-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: .venv/made-dev
	rm -rf dist
	$(BIN)/python tools/dist.py

clean:
	rm -rf .venv outputs site dist
