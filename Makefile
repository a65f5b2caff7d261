# The commands of this project. `make demo` and `make test` are all a stranger needs.
#
#   make demo                     install, build, set up, run a container in a microVM
#   make test                     everything, virtual machines included
#   make test FILTER=exec STREAM=1   a part of it with live output
#   make test-unit                what needs no VM
#   make test-firecracker         what needs VMs, under a Firecracker that FCVM_FIRECRACKER_BIN names
#   make install PREFIX=/usr/local

SHELL := /bin/bash
# Where rustup puts a toolchain that the shell does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
PREFIX ?= /usr/local
FILTER ?=
STREAM ?=

MACHINE := $(shell uname -m)
AGENT_TARGET := $(MACHINE)-unknown-linux-musl
AGENT := target/$(AGENT_TARGET)/release/fcvm-agent
FCVM := target/release/fcvm
NEXTEST := cargo nextest run --cargo-quiet $(if $(STREAM),--no-capture,)

.PHONY: demo build agent test test-unit test-firecracker lint check-arch deps deps-test install check-stack bench clean

demo: deps build
	@scripts/demo

build: agent
	cargo build --release --locked -p fcvm-cli
	@cp -f $(AGENT) target/release/fcvm-agent

agent:
	cargo build --release --locked -p fcvm-agent --target $(AGENT_TARGET)

# VM tests use the release build: under software emulation the guest is slow enough. What `fcvm setup` makes is made once.
test: deps-test build
	@mkdir -p target/e2e
	FCVM_AGENT_BIN=$(abspath $(AGENT)) $(FCVM) --data-dir target/e2e setup
	FCVM_BIN=$(abspath $(FCVM)) FCVM_AGENT_BIN=$(abspath $(AGENT)) \
	  FCVM_TEST_KERNEL=$$(ls $(CURDIR)/target/e2e/artifacts/kernels/*/vmlinux | head -n 1) \
	  FCVM_TEST_MODULES=$$(ls -d $(CURDIR)/target/e2e/artifacts/kernels/*/modules | head -n 1) \
	  $(NEXTEST) --locked --workspace $(if $(FILTER),-E 'test($(FILTER))',)

test-unit:
	$(NEXTEST) --locked --workspace --exclude fcvm-e2e $(if $(FILTER),-E 'test($(FILTER))',)

# The stories under Firecracker, on an emulated host with KVM: FCVM_FIRECRACKER_BIN=/path/to/firecracker make test-firecracker
test-firecracker: deps-test build
	@mkdir -p target/e2e
	FCVM_AGENT_BIN=$(abspath $(AGENT)) $(FCVM) --data-dir target/e2e setup
	scripts/test-firecracker $(if $(FILTER),'(package(fcvm-e2e) | binary(contract)) & test($(FILTER))',)

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Every line compiles for the other architecture too: the agent as it is built, the rest with the same target.
check-arch:
	scripts/check-arch

deps:
	@scripts/install-deps run

deps-test:
	@scripts/install-deps test

# After `make build`: what installs need not have the compiler.
install:
	install -Dm755 $(FCVM) $(DESTDIR)$(PREFIX)/bin/fcvm
	install -Dm755 $(AGENT) $(DESTDIR)$(PREFIX)/lib/fcvm/fcvm-agent
	mkdir -p $(DESTDIR)$(PREFIX)/share/man/man1
	$(FCVM) man $(DESTDIR)$(PREFIX)/share/man/man1

# Stacked pull requests: each branch must descend from the one before it. make check-stack STACK="first second third"
check-stack:
	@scripts/check-stack $(STACK)

# Against podman and gVisor where they are installed. What is kept is in docs/bench.
bench: deps-test build
	scripts/install-deps bench
	@mkdir -p target/e2e docs/bench
	FCVM_AGENT_BIN=$(abspath $(AGENT)) $(FCVM) --data-dir target/e2e setup
	FCVM_BIN=$(abspath $(FCVM)) FCVM_AGENT_BIN=$(abspath $(AGENT)) cargo run --release --locked -p xtask -- bench run
	FCVM_BIN=$(abspath $(FCVM)) FCVM_AGENT_BIN=$(abspath $(AGENT)) cargo run --release --locked -p xtask -- bench clone
	FCVM_BIN=$(abspath $(FCVM)) FCVM_AGENT_BIN=$(abspath $(AGENT)) cargo run --release --locked -p xtask -- bench volume
	@if [ -n "$$FCVM_FIRECRACKER_BIN" ]; then FCVM_BIN=$(abspath $(FCVM)) cargo run --release --locked -p xtask -- bench firecracker; \
	  else echo "SKIPPED: bench firecracker, because FCVM_FIRECRACKER_BIN does not name it"; fi

clean:
	cargo clean
