.DEFAULT_GOAL := help
SHELL := /bin/bash

# Linters run as Go tools of their own, pinned here, so that the service's
# go.mod does not grow by what they need.
GOFUMPT := go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

MAJORS := 14 18

.PHONY: help demo build test e2e container majors fuzz check format lint bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## everything up to a page with live notifications at http://127.0.0.1:8080/
	@go build -o bin/demo ./cmd/demo && exec bin/demo

build: ## bin/gateway and bin/bench
	go build -trimpath -o bin/ ./cmd/gateway ./cmd/bench

test: ## all tests that need nothing but Go and a Postgres, which they find or fetch
	go test -race ./...

e2e: ## the real outside: Chromium, Node and Python clients, PgBouncer, a Postgres container, the loss checker
	.ci/install
	go test -race -count=1 -tags e2e -run E2E ./cmd/bench ./cmd/demo ./cmd/gateway ./deploy/web
	.ci/container-test

majors: ## the store's tests and the loss checker on the oldest and newest Postgres, or MAJORS="14 15 16 17 18"
	.ci/postgres-majors $(MAJORS)

# By count: with a duration, go test fails now and then when the time is up
# (https://go.dev/issue/75804).
FUZZ := go test -run '^$$' -fuzztime 30000x -fuzz

fuzz: ## every fuzz target for a few seconds
	$(FUZZ) FuzzParseCursor ./store
	$(FUZZ) FuzzCompact ./store/internal/view
	$(FUZZ) FuzzExtract ./auth
	$(FUZZ) FuzzVerify ./auth
	$(FUZZ) FuzzEventStream ./cmd/bench

format: ## rewrite the sources as gofumpt has them
	$(GOFUMPT) -w .

lint: ## format, vet, staticcheck
	@unformatted="$$($(GOFUMPT) -l .)"; test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./... && go vet -tags e2e ./...
	$(STATICCHECK) -tags e2e ./...

check: lint test fuzz e2e majors ## what CI runs

bench: ## the benchmark report, beside its floors and targets; then the attack
	@go build -o bin/bench ./cmd/bench && bin/bench report --plots deploy
	go test -run '^$$' -bench . -benchtime 1x ./cmd/gateway
