# make help lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
TEST_THREADS ?= 4
T ?=
BENCH ?=
MINUTES ?= 60
SOAK ?=
CARGO ?= cargo

# Where the programs look for their files is built in. Of the default they know by themselves.
ifneq ($(PREFIX),/usr/local)
build install: export PGPOOL_SYSCONFDIR ?= $(PREFIX)/etc
endif

RELEASE = $(or $(CARGO_TARGET_DIR),target)/release
PROGRAMS = pgpool $(patsubst src/bin/%.rs,%,$(wildcard src/bin/*.rs)) $(patsubst src/bin/%/main.rs,%,$(wildcard src/bin/*/main.rs))

# One program has these names: src/tools/pcp/program.rs.
PCP_PROGRAMS = $(addprefix pcp_, attach_node detach_node health_check_stats invalidate_query_cache log_rotate node_count \
	node_info pool_status proc_count proc_info promote_node recovery_node reload_config stop_pgpool watchdog_info)

.PHONY: help setup build install demo demo-stop test bench soak deb lint clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## */\1\t/p' Makefile | expand -t 12
	@echo
	@echo "make test T=balance     only the tests with this word in their names"
	@echo "make test PG=18         the whole suite on PostgreSQL 18 (13 to 18)"
	@echo "make soak MINUTES=480    a night of it"
	@echo "make install PREFIX=/usr/local DESTDIR="

setup: ## install what building and testing needs (Debian, Ubuntu)
	@scripts/setup
	@if [ -n "$(PG)" ]; then scripts/setup --pg $(PG); fi

build: setup ## the programs, optimised
	$(CARGO) build --release

# Whoever installs may be root, who has no Rust and should own nothing here: what is built is taken as it is.
$(RELEASE)/pgpool:
	$(CARGO) build --release

install: $(RELEASE)/pgpool ## programs to PREFIX/bin, samples to PREFIX/etc, units to PREFIX/lib/systemd, documents to PREFIX/share
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin etc share/doc/pgpool share/man/man1 share/man/man8 share/pgpool/grafana lib/systemd/system lib/tmpfiles.d)
	install -m 755 $(addprefix $(RELEASE)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin
	cd $(DESTDIR)$(PREFIX)/bin && for name in $(PCP_PROGRAMS); do ln -sf pcp $$name; done
	install -m 644 $(wildcard conf/*.sample) $(DESTDIR)$(PREFIX)/etc
	@for script in scripts/samples/*.sh; do \
		install -m 755 $$script $(DESTDIR)$(PREFIX)/etc/$$(basename $$script).sample; done
	install -m 644 $(wildcard conf/grafana/*.json) $(DESTDIR)$(PREFIX)/share/pgpool/grafana
	@for unit in conf/systemd/pgpool.service conf/systemd/pgpool.socket; do \
		sed 's|/usr/local/|$(PREFIX)/|g' $$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$unit) || exit 1; done
	install -m 644 conf/systemd/pgpool.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/pgpool.conf
	install -m 644 README.md $(wildcard docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/pgpool
	install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(wildcard docs/man/*.8) $(DESTDIR)$(PREFIX)/share/man/man8

# A directory of its own: these programs look for their files elsewhere.
deb: setup ## a package for Debian and Ubuntu, in target/deb: the same places as pgpool2, which it replaces
	PGPOOL_SYSCONFDIR=/etc/pgpool2 CARGO_TARGET_DIR=$(CURDIR)/target/deb/build $(CARGO) build --release
	scripts/deb target/deb/build/release target/deb

demo: build ## a primary, two standbys and pgpool, to play with
	@scripts/demo

demo-stop: ## end the demo and remove its files
	@scripts/demo-stop

test: setup ## all tests
	@TEST_THREADS=$(TEST_THREADS) scripts/test $(T)

bench: build ## pgbench against ours, PgBouncer and Pgpool-II (BENCH=--quick for two minutes)
	cargo bench --bench routing_cost
	@scripts/bench/setup
	@scripts/bench/run $(BENCH)
	@scripts/bench/run --secure scram --loads connect $(BENCH)
	@scripts/bench/run --secure tls --loads connect,rows $(BENCH)
	@scripts/bench/run --standbys 2 --contestants direct,floor,ours,pgpool2 --loads mix,block,pipeline --clients 8 --no-idle $(BENCH)

soak: build ## an hour of load while processes are killed and nodes stopped (MINUTES=60)
	@scripts/soak --minutes $(MINUTES) $(SOAK)

lint: ## rustfmt, clippy and shellcheck, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	shellcheck -x scripts/setup scripts/test scripts/deb packaging/debian/p* scripts/demo scripts/demo-stop .ci/run $(wildcard scripts/*.sh scripts/*/*.sh tests/suite/*/*.sh)

clean: ## remove what was built
	cargo clean
