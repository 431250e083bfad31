# make test is all that has to pass; the rest helps to get there.

GO ?= go

# How long each fuzz target runs, and which scenarios `make bench`, or which
# benchmarks `make bench-micro` measures: by default all.
FUZZTIME ?= 30s
BENCH ?=
BENCHFLAGS ?=

# How long each fault lasts that `make faults` lets happen to Redis, and which
# of its tests: by default all.
FAULT ?= 30s
FAULTS ?= .

# Which of the foreign clients `make clients` runs, as a regular expression on
# front/client: by default all, directly, with attached streams, and through nginx and HAProxy.
CLIENTS ?= .

CADDY_VERSION ?= v2.11.9
XCADDY_VERSION ?= v0.4.6
GOLANGCI_VERSION ?= v2.15.0
GORELEASER_VERSION ?= v2.15.1

.PHONY: test setup fuzz faults kills clients client lint promtool bench bench-micro run xcaddy release release-check release-snapshot

# Nobody debugs what make test links: without the tables for that, linking takes half the
# time. Traces and the race detector's reports have functions and lines all the same.
UNDEBUGGED = -ldflags='-s -w'

# vet is built with the race detector as the tests are, so that all that they
# depend on is compiled once; the tests need not vet again. Tests of three packages
# run at a time, because many wait. The last line shows that the benchmarks run;
# figures are bench-micro's. Behind -args, go test does not keep packages waiting for each other.
test: setup
	$(GO) vet -race ./...
	@GO="$(GO)" ./scripts/test.sh -race -vet=off $(UNDEBUGGED) -p 3 -timeout 30m ./...
	@GO="$(GO)" ./scripts/test.sh -race -vet=off $(UNDEBUGGED) -p 3 -short -run '^$$' \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u) \
		-args -test.bench . -test.benchtime 1x

# What the tests need and Go does not bring: nothing is done when it is there.
setup:
	@GO="$(GO)" ./scripts/setup.sh

# go test fuzzes one target of one package at a time. Without a bound, making
# one input smaller may use up the time of a target.
fuzz:
	@set -e; \
	for file in $$(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "== $$target in $$(dirname $$file)"; \
			$(GO) test $$(dirname $$file) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x; \
		done; \
	done

# Three nodes that share a Redis, with 300 subscribers and 2,000 publishes a
# second, while everything happens to the Redis: about twelve minutes.
faults: setup
	EVSTREAM_FAULT=$(FAULT) $(GO) test ./e2e -count 1 -v -timeout 60m -run '^TestNodes.*/$(FAULTS)'

# A hundred times kill -9 at 5,000 publishes a second to the durable log, and twenty power
# cuts at each system call that writes it: about ten minutes.
kills: setup
	EVSTREAM_POWERCUTS=$(or $(POWERCUTS),20) EVSTREAM_GENERATIONS=200 $(GO) test ./boltadapter -count 1 -v -timeout 60m -run '^(TestPowerCutOfAllFiles|TestLogOutlivesItsEnds)$$'
	EVSTREAM_KILLS=$(or $(KILLS),100) $(GO) test ./e2e -count 1 -v -timeout 60m -run '^TestWhatIsAcknowledgedSurvivesKills$$'

# Clients and proxies that others wrote, against a Caddy of this working copy, over
# cuts and restarts: about four minutes. They are a module of their own.
clients:
	@./scripts/clients.sh
	$(GO) build -o bin/caddy-clients ./cmd/caddy
	cd clients && $(GO) test . -count 1
	cd clients && $(GO) build -o ../bin/clients/clients . && PATH="$$PATH:/usr/sbin" ../bin/clients/clients -run '$(CLIENTS)'

# The browser helper as hubs serve it, of its source. The hash says which source that was.
client:
	@./scripts/clients.sh
	cd browser && ../bin/clients/node_modules/.bin/esbuild evstream.js --minify --target=es2022 --format=esm \
		--mangle-props='^(seen|last|reads|wants|sid)$$' --log-level=warning --outfile=evstream.min.js
	cd browser && sha256sum evstream.js >evstream.min.js.of

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) config verify
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) run ./...

# The metrics, the alerts and their tests, by Prometheus' own tool.
promtool:
	@GO="$(GO)" ./scripts/promtool.sh

# Caddy beside a plain net/http broadcaster, in processes of their own. Run as
# it is, and not by `go run`, it hears when make is told to stop.
bench:
	$(GO) build -o bin/bench ./bench
	bin/bench $(if $(BENCH),-scenarios $(BENCH)) $(BENCHFLAGS)

# The benchmarks beside the tests.
bench-micro:
	$(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem ./...

run:
	$(GO) run ./cmd/caddy run --config examples/Caddyfile

# Caddy with this working copy, as bin/caddy. The version is needed, and means
# nothing: "=." puts the working copy in its place.
xcaddy:
	$(GO) run github.com/caddyserver/xcaddy/cmd/xcaddy@$(XCADDY_VERSION) build $(CADDY_VERSION) \
		--output bin/caddy --with github.com/evstream/caddy-evstream@v0.0.0=.
	bin/caddy list-modules | grep evstream

# What a release would be, in dist/, of the last commit; nothing is published. With
# SNAPSHOT='build --single-target' it is the program for this machine alone.
SNAPSHOT ?= release
release-snapshot: release-check
	$(GO) run github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION) $(SNAPSHOT) --snapshot --clean

release-check:
	$(GO) run github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION) check

# A release of the tag that the last commit has: .github/workflows/release.yml does it.
release:
	$(GO) run github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION) release --clean
