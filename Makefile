# Wrenn Sandbox. "make" or "make help" lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# The newest suitable Go is looked for when a recipe runs, since set-up may
# just have installed it.
GO_ENV := . scripts/lib.sh && use_go &&
TOOL := go tool -modfile=tools/go.mod

PREFIX ?= /usr/local

VERSION = $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -s -w -X main.version=$(VERSION)
BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"
EMBEDDED := cmd/wrenn/guest/wrenn-guest cmd/wrenn/guest/wrenn-jail

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## install with apt what this machine lacks (root or sudo)
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
uninstall: ## destroy every sandbox and remove all that Wrenn has put on this machine
	@PREFIX="$(PREFIX)" scripts/uninstall.sh

.PHONY: stop
stop: ## pause the sandboxes and stop the server that quickstart started
	@scripts/stop.sh

# What is embedded is copied only when it has changed: its time is part of
# what the build cache of bin/wrenn goes by.
.PHONY: build
build: ## build bin/wrenn with the guest agent in it
	@$(GO_ENV) mkdir -p bin && $(BUILD) -o bin/ ./cmd/wrenn-guest ./cmd/wrenn-jail
	@for f in $(EMBEDDED); do cmp -s bin/$${f##*/} $$f || install -m 0755 bin/$${f##*/} $$f; done
	@$(GO_ENV) $(BUILD) -o bin/wrenn ./cmd/wrenn

.PHONY: generate
generate: ## make the generated code anew from the protocols and queries
	@$(GO_ENV) (cd api && go tool -modfile=../tools/go.mod buf generate)
	@$(GO_ENV) (cd api && go tool -modfile=../tools/go.mod oapi-codegen -config types/oapi-codegen.yaml openapi.yaml)
	@$(GO_ENV) (cd internal/control/postgres && go tool -modfile=../../../tools/go.mod sqlc generate)

.PHONY: test
test: ## set up and run every test, with real VMs and a real database
	@scripts/test.sh

.PHONY: test-fresh
test-fresh: ## run the README in minimal Debian 12 and 13 trees (FRESH_SUITES, FRESH_USERS, FRESH_PARTS)
	@scripts/test-fresh.sh

.PHONY: test-kvm
test-kvm: ## run the driver suite under nested hardware virtualisation (slow)
	@scripts/test-kvm.sh

.PHONY: bench
bench: build ## measure create, exec, pause, resume and transfers
	@scripts/bench.sh

.PHONY: clients
clients: ## generate and compile clients of the API, and try it with schemathesis
	@scripts/clients.sh

.PHONY: check
check: ## what a change must pass: generated code, format, linters, tests
	@scripts/check.sh

.PHONY: clean
clean: ## remove what building made; data and images stay
	@rm -rf bin $(EMBEDDED)
