# Wrenn Sandbox. "make" or "make help" lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Each recipe looks for the newest suitable Go when it runs, because set-up may
# just have installed it.
GO_ENV := . scripts/lib.sh && use_go &&
TOOL := go tool -modfile=tools/go.mod

PREFIX ?= /usr/local

VERSION = $(shell scripts/version.sh)
LDFLAGS = -s -w -X main.version=$(VERSION)
BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"
EMBEDDED := cmd/wrenn/guest/wrenn-guest cmd/wrenn/guest/wrenn-jail

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## install missing packages with apt (root or sudo)
	@scripts/setup.sh

.PHONY: quickstart
quickstart: ## set up, build, start a server and run Python in a sandbox
	@scripts/quickstart.sh

.PHONY: up
up: build ## run the server in the foreground
	@. scripts/lib.sh && as_root bin/wrenn up

.PHONY: install
install: build ## put wrenn into PATH, as $(PREFIX)/bin/wrenn (root or sudo)
	@. scripts/lib.sh && as_root install -D -m 0755 bin/wrenn "$(PREFIX)/bin/wrenn" && say "$(PREFIX)/bin/wrenn"

.PHONY: uninstall
uninstall: ## destroy every sandbox and remove Wrenn and its data from this machine
	@PREFIX="$(PREFIX)" scripts/uninstall.sh

.PHONY: stop
stop: ## pause the sandboxes and stop the server that quickstart started
	@scripts/stop.sh

# An embedded program is copied only when it has changed, because its time is
# part of the key under which the build cache keeps bin/wrenn.
.PHONY: build
build: ## build bin/wrenn with the guest agent in it
	@$(GO_ENV) mkdir -p bin && $(BUILD) -o bin/ ./cmd/wrenn-guest ./cmd/wrenn-jail
	@for f in $(EMBEDDED); do cmp -s bin/$${f##*/} $$f || install -m 0755 bin/$${f##*/} $$f; done
	@$(GO_ENV) $(BUILD) -o bin/wrenn ./cmd/wrenn

.PHONY: runsc
runsc: ## build runsc, the gVisor runtime, into the image store (1 to 3 minutes)
	@scripts/runsc.sh

.PHONY: generate
generate: ## regenerate code from protocols and SQL queries
	@$(GO_ENV) (cd api && go tool -modfile=../tools/go.mod buf generate)
	@$(GO_ENV) (cd api && go run -C ../tools ./propertyorder <openapi.yaml | \
		go tool -modfile=../tools/go.mod oapi-codegen -config types/oapi-codegen.yaml /dev/stdin)
	@$(GO_ENV) (cd internal/control/postgres && go tool -modfile=../../../tools/go.mod sqlc generate)

.PHONY: test-fast
test-fast: ## run the tests that need no root, VM or database
	@scripts/test-fast.sh

.PHONY: lint
lint: ## check generated code, format, shell scripts, vet, staticcheck
	@scripts/lint.sh

.PHONY: test
test: ## set up and run every test, with real VMs and a real database
	@scripts/test.sh

.PHONY: test-compat
test-compat: ## run the pinned clients of E2B against a server of this source
	@scripts/compat.sh

.PHONY: test-fresh
test-fresh: ## run the README in minimal Debian 12 and 13 trees (FRESH_SUITES, FRESH_USERS, FRESH_PARTS)
	@scripts/test-fresh.sh

.PHONY: test-kvm
test-kvm: ## test KVM and limits by cgroup v2, in an emulated machine (slow)
	@scripts/test-kvm.sh

.PHONY: bench
bench: build ## measure create, exec, pause, resume and transfers
	@scripts/bench.sh

.PHONY: clients
clients: ## generate and compile API clients, and test the API with schemathesis
	@scripts/clients.sh

.PHONY: check
check: ## everything that a change must pass: lint, test, clients
	@scripts/check.sh

.PHONY: clean
clean: ## remove build products; data and images stay
	@rm -rf bin $(EMBEDDED)
