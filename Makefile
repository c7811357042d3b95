# The one entry to Leveret's tooling; `make` alone lists what there is.

# Where `make run` keeps the broker's data, and further flags for it, as in: make run RUN_ARGS="--log-format json"
DATA_DIR ?= ./data
RUN_ARGS ?=
# For the benchmark program, as in: make bench-route BENCH_ARGS="topic --save-baseline before"
BENCH_ARGS ?=
# For the crash test, as in: make crash CRASH_ARGS="--cycles 1000 --power-cuts 20000 --seed 42"
CRASH_ARGS ?=
# Builds of the broker to compare, as in: make bench-instructions PROGRAMS="/tmp/before target/release/leveret"
PROGRAMS ?=

# rustup puts cargo here, and not every shell has it in its path.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO_FLAGS := --locked

# The broker that scripts start: the one just built, unless LEVERET_BIN names another.
TARGET_DIR = cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
WITH_BROKER = LEVERET_BIN="$${LEVERET_BIN:-$$($(TARGET_DIR))/debug/leveret}"

.DEFAULT_GOAL := help
.PHONY: help setup run build deb try-packages debug-broker test crash tutorials interop definitions fuzz fuzz-coverage differential lint fmt-check clippy doc bench-route bench-pieces bench-instructions bench bench-scaling clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what the build needs (Debian packages, crates, RocksDB); quick when nothing is missing
	@scripts/setup.sh

# cargo replaces itself with the broker, so Ctrl-C and SIGTERM reach it directly.
run: setup ## Build in release mode and start the broker (AMQP 5672, metrics 15692, data in ./data)
	@cargo run $(CARGO_FLAGS) --release --package leveret --bin leveret -- serve --data-dir $(DATA_DIR) $(RUN_ARGS)

build: setup ## Build the broker in release mode
	cargo build $(CARGO_FLAGS) --release --package leveret --bin leveret

deb: build ## Make a Debian package in target/debian (needs cargo-deb: cargo install cargo-deb)
	@cargo deb --version >/dev/null 2>&1 || { echo "cargo-deb is not installed: cargo install cargo-deb" >&2; exit 1; }
	@program=$$($(TARGET_DIR))/release/leveret; mkdir -p target/manual target/completions; \
	$$program man --directory target/manual && \
	$$program completions bash > target/completions/leveret.bash && \
	$$program completions zsh > target/completions/_leveret && \
	$$program completions fish > target/completions/leveret.fish
	cargo deb --package leveret --no-build --strip --locked

try-packages: deb ## Try the Debian package, the unit under a systemd of its own and the image, as root; changes nothing outside of namespaces
	@program=$$($(TARGET_DIR))/release/leveret; package=$$(ls -t "$$($(TARGET_DIR))"/debian/leveret_*.deb | head -n 1); \
	packaging/try.sh "$$program" "$$package" && packaging/systemd.sh "$$package" && packaging/image.sh "$$program"

# The integration tests start the leveret binary from the target folder, and cargo does not build it for them.
debug-broker: setup
	cargo build $(CARGO_FLAGS) --package leveret --bin leveret

test: debug-broker ## Run all tests
	cargo test $(CARGO_FLAGS) --workspace --no-fail-fast
	@for script in $(wildcard integration-tests/run.sh); do $(WITH_BROKER) ./$$script || exit 1; done

crash: debug-broker ## Kill the broker and cut the power under its store at random, and look whether anything is lost; about 5 minutes
	@$(WITH_BROKER) cargo run $(CARGO_FLAGS) --package leveret-integration-tests --bin crash -- $(CRASH_ARGS)

tutorials: debug-broker ## Run the six RabbitMQ tutorials against a broker started for them, showing their output
	@$(WITH_BROKER) ./rabbitmq-tutorials/run.sh

interop: debug-broker ## Run clients of other languages (Python, Node, Go, Java, Celery) against a broker started for them
	@$(WITH_BROKER) ./interop/run.sh

definitions: debug-broker ## Take some thousand objects from a RabbitMQ (Debian's) to Leveret and back; skipped where it is not installed
	@$(WITH_BROKER) ./interop/definitions.sh

fuzz: setup ## Send strange bodies to the management API and read strange configurations, some minutes (FUZZ_SEED=42)
	FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} FUZZ_BODIES=$${FUZZ_BODIES:-2000} cargo test $(CARGO_FLAGS) --package leveret --test management -- no_body_is_too_strange
	PROPTEST_CASES=$${PROPTEST_CASES:-200000} cargo test $(CARGO_FLAGS) --package leveret --test rabbitmq_conf -- no_file_is_too_strange

fuzz-coverage: setup ## Fuzz frames, both configuration files and the API's bodies, guided by coverage (needs a nightly compiler and cargo-fuzz; SECONDS_EACH=120)
	@cargo +nightly --version >/dev/null 2>&1 || { echo "there is no nightly compiler: rustup toolchain install nightly" >&2; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is not installed: cargo install cargo-fuzz" >&2; exit 1; }
	@for target in frames configuration rabbitmq_conf bodies; do \
	  mkdir -p fuzz/corpus/$$target && \
	  cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$${SECONDS_EACH:-120} -timeout=20 -max_len=4096 -print_final_stats=1 || exit 1; \
	done

differential: debug-broker ## Compare with RabbitMQ on random sequences of operations, three minutes (SEED=42 COUNT=1 SECONDS_MAX=180 THEMES=...)
	@$(WITH_BROKER) cargo run $(CARGO_FLAGS) --quiet --package leveret-integration-tests --bin differential

lint: setup fmt-check clippy doc ## Check formatting, clippy's warnings and the documentation

fmt-check:
	@if cargo fmt --version >/dev/null 2>&1; then echo cargo fmt --all --check; cargo fmt --all --check; \
	else echo "SKIPPED: formatting was not checked, because rustfmt is not installed (rustup component add rustfmt)"; fi

clippy:
	@if cargo clippy --version >/dev/null 2>&1; then \
	  echo cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings; \
	  cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings; \
	else echo "SKIPPED: clippy's warnings were not checked, because clippy is not installed (rustup component add clippy)"; fi

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps --document-private-items

bench-route: setup ## Measure routing: nanoseconds per route for each kind of exchange
	cargo bench $(CARGO_FLAGS) --package leveret-routing --bench '*' -- $(BENCH_ARGS)

bench-pieces: setup ## Measure the pieces of the hot path: decoding, encoding, queue, sessions, commit (and routing: bench-route)
	cargo bench $(CARGO_FLAGS) --package leveret --bench '*' -- $(BENCH_ARGS)
	cargo bench $(CARGO_FLAGS) --package leveret-storage --bench '*' -- $(BENCH_ARGS)

bench-instructions: setup ## Count the instructions that the broker executes per message (valgrind); or compare programs: PROGRAMS="old new"
	@scripts/bench-instructions.sh $(PROGRAMS)

bench: setup ## Measure Leveret beside Debian's RabbitMQ (installed if need be) and write BENCHMARKS.md; with plots; at most 20 minutes after the build
	@scripts/bench.sh

bench-scaling: setup ## Measure how Leveret's cost grows with bindings, queues, connections, sizes, backlogs; plots in docs/benchmarks
	@scripts/bench-scaling.sh

clean: ## Remove what cargo built (not ./data, not the RocksDB library in ~/.cache/leveret)
	cargo clean
