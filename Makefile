# The commands a person and CI run. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
PYTHON := /usr/bin/python3
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# The demonstration has a folder of its own, so that it never meets a person's cluster.yaml.
DEMO := images/out/demo
# Tests with a command of their own are marked.
HERE := not cluster and not k3s and not vendors and not flavours
# A test that hangs says where, and fails; no boot may take longer than 15 minutes.
BOUNDED := -o faulthandler_timeout=1500 -o faulthandler_exit_on_timeout=true --max-worker-restart=0

.PHONY: help
help: ## List these commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: packages $(VENV)/made ## Install system packages (packages.txt) and make the virtual environment

.PHONY: packages
packages:
	@missing=""; PATH="$$PATH:/usr/sbin:/sbin"; \
	while read -r job name provides _; do \
	  case "$$job" in ""|"#") continue;; esac; \
	  if [[ "$$provides" == /* ]]; then compgen -G "$$provides" > /dev/null; \
	  else command -v "$$provides" > /dev/null; fi || missing+=" $${name/ARCH/$$(dpkg --print-architecture)}"; \
	done < packages.txt; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q; known=""; \
	  for name in $$missing; do \
	    if apt-cache show "$$name" > /dev/null 2>&1; then known+=" $$name"; \
	    else echo "not in this release: $$name (pibake doctor says what it is for)"; fi; done; \
	  echo "installing:$$known"; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$known; fi
	@if [ ! -e /proc/sys/fs/binfmt_misc/register ]; then \
	  $(SUDO) mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && $(SUDO) update-binfmts --enable; fi || \
	  echo "binfmt_misc could not be mounted: bases cannot be assembled here (pibake doctor base)"

$(VENV)/made: pyproject.toml
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

.PHONY: node3
node3: setup ## Set up, bake node3 on debian-13, and boot it in QEMU to a health report
	mkdir -p $(DEMO)
	cd $(DEMO) && { [ -e cluster.yaml ] || $(CURDIR)/$(BIN)/pibake init --yes; }
	cd $(DEMO) && $(CURDIR)/$(BIN)/pibake build --hostname node3
	cd $(DEMO) && $(CURDIR)/$(BIN)/pibake boot node3

.PHONY: test
test: setup ## Run the linters and every test, with real QEMU boots
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest $(BOUNDED) -n auto --dist loadfile -m 'not boot and $(HERE)'
	$(BIN)/pytest $(BOUNDED) -n 2 --dist loadfile -m boot

.PHONY: test-quick
test-quick: setup ## Run everything that needs no boot and no base image
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadfile -m 'not boot and not base and $(HERE)'

.PHONY: test-boot-all
test-boot-all: setup ## Boot a card through every network program, on Debian 11 to 13, with cloud-init and without
	$(BIN)/pytest -m 'boot or flavours' --durations=0 tests/boot tests/net

.PHONY: test-cluster
test-cluster: setup ## Build Kubernetes once (20 minutes), then let cards join it (needs root)
	tests/cluster/build-bundle
	tests/cluster/fetch-etcd
	$(BIN)/pytest -m cluster -k 'not slow' --durations=0 -s tests/cluster

.PHONY: test-cluster-init
test-cluster-init: setup ## Let an emulated card start a cluster with kubeadm init (needs root, and an hour)
	tests/cluster/build-server-bundle
	tests/cluster/fetch-etcd
	$(BIN)/pytest -m cluster -k slow --durations=0 -s tests/cluster/test_init.py

.PHONY: test-k3s
test-k3s: setup ## Download k3s (K3S_VERSION), and let two cards become a cluster of it (needs root)
	$(BIN)/pytest -m k3s -s tests/cluster/test_k3s_real.py

.PHONY: test-vendors
test-vendors: setup ## Check lists and signatures on the vendors' real sites; PIBAKE_WHOLE=1 pulls the images, too
	$(BIN)/pytest -m vendors -rA --no-header tests/vendors

.PHONY: bench
bench: setup ## Print the speed figures, each beside its floor or peer
	$(BIN)/python bench/bench.py

.PHONY: bench-wire
bench-wire: setup ## Print the speed figures of netboot, each beside its floor or peer (needs root)
	$(BIN)/python -m bench.page
	$(BIN)/python -m bench.wire

.PHONY: load
load: setup ## Let a rack boot from the wire: 48 Pi 3Bs at once, 500 mixed boards (needs root)
	$(BIN)/python -m bench.rack

.PHONY: format
format: setup ## Format the sources
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: clean
clean: ## Remove what was built here (the cache of bases stays)
	rm -rf images/out dist .mypy_cache .pytest_cache .ruff_cache
