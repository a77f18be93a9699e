.DEFAULT_GOAL := help
SHELL := /bin/bash

# Linters run as Go tools of their own, pinned here, so that the service's
# go.mod does not grow by what they need.
GOFUMPT := go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

MAJORS := 14 18

# Stamped into the program and the image.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

.PHONY: help demo build image dist test test-dist e2e e2e-go containers majors manifests fuzz check format lint bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## everything up to a page with live notifications at http://127.0.0.1:8080/
	@go build -o bin/demo ./cmd/demo && exec bin/demo

build: ## bin/gateway and bin/bench
	go build -trimpath -ldflags "-X main.stampedVersion=$(VERSION) -X main.stampedCommit=$(COMMIT)" -o bin/ ./cmd/gateway
	go build -trimpath -o bin/ ./cmd/bench

image: ## the container image notification-gateway:VERSION
	DOCKER_BUILDKIT=1 docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t notification-gateway:$(VERSION) .

dist: ## a release in dist/: programs for amd64 and arm64, what is in them, checksums
	.ci/dist dist "$(VERSION)" "$(COMMIT)"

test-dist: ## two builds of a release have the same bytes
	.ci/test-dist

test: ## all tests that need nothing but Go and a Postgres, which they find or fetch
	go test -race -timeout 20m ./...

e2e: ## the real outside: Chromium, Node, Python, Django, nginx, HAProxy, Caddy, PgBouncer, containers, compose, the loss checker
	.ci/install
	$(MAKE) e2e-go
	.ci/containers

e2e-go: ## the part of e2e that is tests in Go
	go test -race -count=1 -timeout 30m -tags e2e -run E2E ./cmd/bench ./cmd/demo ./cmd/gateway ./deploy/web

containers: ## the part of e2e that needs a Docker engine
	.ci/containers

majors: ## the store's tests and the loss checker on the oldest and newest Postgres, or MAJORS="14 15 16 17 18"
	.ci/postgres-majors $(MAJORS)

manifests: ## the manifests of Kubernetes and the Helm chart, rendered by kustomize and helm, and decoded
	cd deploy/kubernetes/render && go vet ./... && go test -count=1 ./...

# By count: with a duration, go test fails now and then when the time is up
# (https://go.dev/issue/75804).
FUZZ := go test -run '^$$' -fuzztime 30000x -fuzz

fuzz: ## every fuzz target for a few seconds
	$(FUZZ) FuzzParseCursor ./store
	$(FUZZ) FuzzCompact ./store/internal/view
	$(FUZZ) FuzzExtract ./auth
	$(FUZZ) FuzzVerify ./auth
	$(FUZZ) FuzzEventStream ./cmd/bench/internal/losscheck

format: ## rewrite the sources as gofumpt has them
	$(GOFUMPT) -w .

lint: ## format, vet, staticcheck
	@unformatted="$$($(GOFUMPT) -l .)"; test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./... && go vet -tags e2e ./...
	$(STATICCHECK) -tags e2e ./...

# What waits more than it computes runs beside what computes; the output of each
# comes when it has ended.
check: lint test ## what CI runs
	.ci/install
	$(MAKE) --jobs=2 --output-sync=target e2e-go manifests containers majors test-dist fuzz

bench: ## the benchmark report, beside its floors and targets; then the attack
	@go build -o bin/bench ./cmd/bench && bin/bench report
	go test -run '^$$' -bench . -benchtime 1x ./cmd/gateway
