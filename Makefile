# Two commands are the whole set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each stamp is the lock it was installed from, so a changed lock installs again.
RUN_READY := $(VENV)/.run.lock
DEV_READY := $(VENV)/.dev.lock

.PHONY: help run test test-fast check lint audit format bench lock vendor clean debian

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN_READY): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	cp requirements.lock $@

$(DEV_READY): requirements-dev.lock $(RUN_READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	cp requirements-dev.lock $@

# What the end-to-end tests run beside Veza: another PostgreSQL than its own, Redis, nginx with RTMP, ffmpeg, a browser.
debian:
	@sh tests/debian.sh

run: $(RUN_READY)  ## Serve a demo on :8080: embedded PostgreSQL, sandbox providers, live streaming, demo accounts
	$(BIN)/veza demo

# What was compiled is kept, also where the environment asks for the contrary: each worker would compile all tests anew,
# which takes it eight seconds, and each process that a test starts all of Veza.
unexport PYTHONDONTWRITEBYTECODE

# One more than there are cores, for while one waits for its database. The slow ones mostly wait, for processes to start
# and for clocks: three at a time, a file's tests one after another, as they share what they started; and those that
# measure with nothing beside them.
FAST_TESTS := $(BIN)/python -m pytest -q -m "not slow" -n 3 --dist worksteal
SLOW_TESTS := $(BIN)/python -m pytest -q -m "slow and not alone" -n 3 --dist loadfile --no-loadscope-reorder
ALONE_TESTS := $(BIN)/python -m pytest -q -m alone

lint: $(DEV_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: $(DEV_READY)  ## Whether a package has a fault that is known; says so where nobody can be asked
	$(BIN)/python -m tests.known_faults

check: lint audit  ## The gate of every commit: format, lint, types, floors, and the tests that start no whole processes
	$(FAST_TESTS)

test: lint audit debian  ## Everything: the gate and the end-to-end and fault tests
	$(FAST_TESTS)
	$(SLOW_TESTS)
	$(ALONE_TESTS)

test-fast: $(DEV_READY)  ## The tests that start no whole processes
	$(FAST_TESTS)

bench: $(DEV_READY)  ## Each figure a ratio against a peer or a floor in the same run; JSON in bench/results
	$(BIN)/python -m bench

format: $(DEV_READY)  ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(BIN)/pip-compile --quiet --generate-hashes --all-build-deps --allow-unsafe --strip-extras \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock: $(DEV_READY)  ## Pin what pyproject.toml asks for, with hashes
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

# What comes from elsewhere and is kept here, so that running and testing Veza takes Python alone: the player, what shows
# the API's document, and what pages are checked with for people who see, hear or move otherwise.
HLS := hls.js-1.7.4
HLS_SHA512 := dc697119d3ef4f6607bd060eb7ec8ecd3fc3122a2bfea255348ca51c0efb9207a805375042a8bbd06c1e7cd11498741e346ca30bc53adbe6ebbaa5bf4e99beb6
AXE := axe-core-4.14.1
AXE_SHA512 := 1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
SWAGGER := swagger-ui-dist-5.35.0
SWAGGER_SHA512 := 534eaba4cb56f55dd73c638179a993512af4674f63317e0826e00da44fc465b021c341bc0a0c2bcd4e18997927fe1d3008336c5dd19aad334d1c2dec53cc9551
UNPACKED = npm pack --silent $(1) && echo "$(2)  $(3).tgz" | sha512sum --check && tar -xzf $(3).tgz && mv package $(3)
vendor:  ## Fetch hls.js, Swagger UI and axe-core anew (takes npm), and check that they are the ones we know
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && $(call UNPACKED,$(subst js-,js@,$(HLS)),$(HLS_SHA512),$(HLS))
	cd build/vendor && $(call UNPACKED,$(subst dist-,dist@,$(SWAGGER)),$(SWAGGER_SHA512),$(SWAGGER))
	cd build/vendor && $(call UNPACKED,$(subst core-,core@,$(AXE)),$(AXE_SHA512),$(AXE))
	cd build/vendor/$(HLS) && cp LICENSE dist/hls.light.min.js $(CURDIR)/veza/http/static/vendor/hls.js/
	cd build/vendor/$(SWAGGER) && cp LICENSE NOTICE swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css \
		$(CURDIR)/veza/http/static/vendor/swagger-ui/
	cd build/vendor/$(AXE) && cp LICENSE LICENSE-3RD-PARTY.txt axe.min.js $(CURDIR)/tests/vendor/axe-core/

clean:  ## Remove the environment and what the tools cached; var/ stays, it is data
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis *.egg-info build
