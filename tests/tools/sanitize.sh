#!/bin/sh
# Runs the tests of the Rust code and each fuzz target for a minute under AddressSanitizer:
#
#     rustup toolchain install nightly
#     tests/tools/sanitize.sh
#
# It sees what Rust code does, not what compiled kernels do: these are run between pages that cannot be accessed.
# Everything is built once more, to target/sanitize or to CARGO_TARGET_DIR. SECONDS_EACH is for how long each target
# runs.
set -eu
cd "$(dirname "$0")/../.."
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/sanitize}"
# The code of kernels stays for as long as the process: no leaks are looked for.
export RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0
cargo +nightly test --release --target "$host" --lib --bins --tests \
    -p optc-tensor -p optc-ir -p optc-onnx -p optc-runtime -p optc-native -p optc
# Its programs in C link libraries that a compiler without the sanitizer builds.
cargo +nightly test --release --target "$host" --lib -p optc-capi
cargo +nightly build --release --target "$host" -p optc-fuzz
for target in kernels run onnx text artifact tuning program; do
    "$CARGO_TARGET_DIR/$host/release/optc-fuzz" "$target" --seconds "${SECONDS_EACH:-60}"
done
