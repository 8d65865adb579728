# The book's commands. `make reproduce PROFILE=smoke BOOK=poet` narrows a run; README.md says what each profile costs.
PYTHON  ?= python3
PROFILE ?= quick
BOOK    ?= all
BIN     := .venv/bin
# Threads that wait do not spin: on a busy machine spinning costs far more than it gains.
export OMP_WAIT_POLICY ?= PASSIVE
# Without compiled files every one of the hundred processes would compile torch and its company anew: 12 s of CPU each.
unexport PYTHONDONTWRITEBYTECODE
# Recipes read the variables from the environment: "$$PROFILE" stays one word whatever it holds.
export PROFILE BOOK

.PHONY: setup reproduce lint test test-site kernels wheel drills book site playground lab lock bench clean

setup: .venv/.stamp                # .venv with every locked version and the package itself

.venv/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit('posekit needs Python 3.11 to 3.13: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps -e .
	touch $@

reproduce: setup                   # runs, figures and executed notebooks of a profile: only what is missing
	$(BIN)/python ci/reproduce.py --profile "$$PROFILE" --book "$$BOOK"

lint: setup                        # style, format, types, and which package may import which
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

test: setup                        # the test suite, a file at a time in each of at most four processes
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile

test-site: site                    # the site, the playground and a slider in JupyterLab, in Chromium where that is installed
	$(BIN)/python -m pytest -q --browser tests/test_site.py tests/test_playground.py tests/test_widgets.py -m browser

kernels: setup                     # what learns, once more with the plainest CPU kernels: another machine's last bits
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest -q -m learning
	rm -rf data/runs/kernels
	ATEN_CPU_CAPABILITY=default $(BIN)/python ci/execute.py notebooks/10_train.ipynb build/kernels/10_train.rtmo_features_45.ipynb \
		-p run_dir data/runs/kernels/rtmo_features_45 -p recipe rtmo_tiny -p seed 0 -p steps 200 -p images 2400 \
		-p val_images 100 -p more '{"model_options": {"features": [4, 5]}}'

wheel: setup                       # the package built, installed elsewhere, and used without the repository
	$(BIN)/python ci/check_wheel.py

drills: setup                      # tests/drills in their long form: signals, full disks, two writers, mutated files
	$(BIN)/python -m pytest -q tests/drills --long
	$(BIN)/python tests/drills/fuzz.py --seed 0

book: reproduce                    # the executed notebooks as web pages, in build/PROFILE/html
	build="$${PROFILE##*/}"; build="build/$${build%.y*ml}"; \
	$(BIN)/python -m nbconvert --log-level WARN --to html --output-dir "$$build/html" "$$build"/*.ipynb

playground: setup                  # the shipped models in a web page, in build/playground; npm fetches the runtime
	$(BIN)/python ci/playground.py

site: setup                        # the web site of the committed notebooks, in build/site; runs nothing
	$(BIN)/python ci/build_site.py

lab: setup                         # read and change the notebooks
	$(BIN)/python -m jupyterlab notebooks

lock: setup                        # requirements.lock anew, from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra book --extra export --extra site --extra dev --universal --python-version 3.11 --fork-strategy fewest --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

bench: setup                       # cost of the parts, as CPU time and ratios
	OMP_NUM_THREADS=1 $(BIN)/python -m posebook.benchmarks all

clean:                             # what can be made again; trained runs (data/runs) stay
	rm -rf build .snakemake .pytest_cache .ruff_cache .mypy_cache .grimp_cache figures/smoke figures/quick figures/paper data/cache
