# Common commands. CI runs the same recipes through .ci/run.

# Build everything, then show records going from a POST into a table.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Run all tests with the real services.
test *ARGS:
    scripts/test {{ARGS}}

# Run all CI checks before the tests.
check: fmt clippy doc book deny ui

# Check the formatting.
fmt:
    cargo fmt --all --check

# Run the lints, warnings as errors.
clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Build the documentation, warnings as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Run each fuzz target with a fixed number of inputs. One for longer: `fuzz/run TARGET`.
fuzz:
    fuzz/ci

# Simulate the whole write path with many seeds: `just simulate 100000`.
simulate SEEDS="10000":
    FOREBAY_SIM_SEEDS={{SEEDS}} cargo test -p forebay-delivery --test sim -- --nocapture runs::seeds

# Check the types of the dashboard, and that `ui/dist` matches its sources.
ui:
    ui/check

# Build the documentation as a site in target/book, and check its links.
book:
    scripts/docs

# Lint, render and run what is in deploy/: `just deploy --binary target/release/forebay`.
deploy *ARGS:
    deploy/check {{ARGS}}

# Make archives, debug symbols, package and bill of materials of a release.
dist *ARGS:
    scripts/dist {{ARGS}}

# Check licences, sources and advisories.
deny:
    scripts/deny

# Regenerate the generated documents.
generate:
    UPDATE=1 cargo test --workspace

# Compare Forebay with the limit in one run: `just bench http`.
bench *ARGS:
    cargo build --profile dist --features cassandra,redis
    cargo run --release --manifest-path bench/Cargo.toml -- {{ARGS}}

# Kill the real binary, cut its connections, count records: `just torture --minutes 10 --seed 7`.
torture *ARGS:
    scripts/torture {{ARGS}}
