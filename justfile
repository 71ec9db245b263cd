# What people do often. CI runs the same recipes through .ci/run.

# Builds everything, then shows records going from a POST into a table.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests, with the real services.
test *ARGS:
    scripts/test {{ARGS}}

# Everything that CI checks before the tests.
check: fmt clippy doc deny ui

# Formatting.
fmt:
    cargo fmt --all --check

# Lints, warnings as errors.
clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Documentation, warnings as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Each fuzz target for a fixed number of inputs. One for longer: `fuzz/run TARGET`.
fuzz:
    fuzz/ci

# The whole path on simulated surroundings, many seeds: `just simulate 100000`.
simulate SEEDS="10000":
    FOREBAY_SIM_SEEDS={{SEEDS}} cargo test -p forebay-flow --test sim -- --nocapture runs::seeds

# The types of the dashboard, and whether `ui/dist` is what its sources build to.
ui:
    ui/check

# Licences, sources, advisories.
deny:
    scripts/deny

# Writes the generated documents anew.
generate:
    UPDATE=1 cargo test --workspace

# Forebay beside the limit in one run: `just bench http`.
bench *ARGS:
    cargo build --profile dist --features cassandra,redis
    cargo run --release --manifest-path bench/Cargo.toml -- {{ARGS}}

# Kills the real binary again and again, cuts its connections, counts: `just torture --minutes 10 --seed 7`.
torture *ARGS:
    scripts/torture {{ARGS}}
