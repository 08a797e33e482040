# The standard library for wasm32 with shared memory, for the page's second module. It is not distributed compiled: it is built
# from the source that belongs to the compiler. Sourced by setup.sh. Where that source cannot be had, the page has one thread.

# What the library and everything that is linked with it are compiled with, beside the flags in .cargo/config.toml.
wasm_threads_features=-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals

# A folder in the form of a compiler's own, after wasm_env. One for each version of the compiler.
wasm_threads_sysroot() {
    local version
    version=$("${RUSTC:-rustc}" -vV | awk '$1 == "release:" { release = $2 } $1 == "commit-hash:" { hash = substr($2, 1, 9) } END { print release "-" hash }')
    echo "$cache/wasm-threads-$version"
}

have_wasm_threads() { [ -d "$(wasm_threads_sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]; }

# Why there is none, where an attempt said so: `./build.sh setup` tries again, and so does everything once the source is there.
wasm_threads_obstacle() {
    local said
    said=$(cat "$(wasm_threads_sysroot).missing" 2>/dev/null) || return 0
    case $said in *"source of the standard library"*) [ ! -d "$(std_source)" ] || return 0 ;; esac
    echo "$said"
}

std_source() { echo "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/library"; }

# It succeeds without a library, too: then it leaves the reason.
install_wasm_threads() {
    have_wasm_threads && return
    mkdir -p "$cache"
    rm -f "$(wasm_threads_sysroot).missing"
    # Where the network is closed, rustup tries for a long time.
    if [ ! -d "$(std_source)" ] && [ -z "${RUSTC:-}" ] && command -v rustup >/dev/null; then
        within 120 rustup component add rust-src || true
    fi
    if [ ! -d "$(std_source)" ]; then
        echo "the source of the standard library is missing (rustup component add rust-src)" | tee "$(wasm_threads_sysroot).missing"
        return
    fi
    # Set -e does not reach into a function that is asked for its success.
    (set -e; build_wasm_threads_std) &
    wait $! || echo "the standard library does not compile with threads: $log/wasm-threads-std.log" | tee "$(wasm_threads_sysroot).missing"
}

# The nightly option builds it; the compiler stays a stable one.
build_wasm_threads_std() {
    local temporary lib
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # The name is wanted now: it is a local one, gone when the trap runs.
    trap "rm -rf '$temporary'" EXIT
    mkdir -p "$temporary/std/src"
    : >"$temporary/std/src/lib.rs"
    # Building an empty crate builds the standard library that it depends on.
    printf '[package]\nname = "nothing"\nversion = "0.0.0"\nedition = "2021"\n' >"$temporary/std/Cargo.toml"
    cd "$temporary/std"
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Ctarget-feature=+simd128 $wasm_threads_features -Cembed-bitcode=yes" CARGO_TARGET_DIR=$temporary/target \
        cargo build --release -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown
    lib=$temporary/sysroot/lib/rustlib/wasm32-unknown-unknown/lib
    mkdir -p "$lib"
    cp "$temporary"/target/wasm32-unknown-unknown/release/deps/*.rlib "$lib/"
    rm -f "$lib"/libnothing-*.rlib
    rm -rf "$(wasm_threads_sysroot)"
    mv "$temporary/sysroot" "$(wasm_threads_sysroot)"
}
