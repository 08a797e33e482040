# The standard library for wasm32, which rustup gives in a moment and some networks do not let through. Sourced by
# setup.sh. Where rustup fails, Debian's rustc-web is unpacked into the cache folder and std is built from its source:
# no installed toolchain is touched.

# Packages of Debian's toolchain whose names do not carry a version.
rustc_web_packages="rustc-web rust-web-src rust-web-clippy libstd-rust-web-dev"

# The toolchain made from them. The version is part of the name, so that a new one is built when Debian has it.
rustc_web_version() { apt-cache policy rustc-web 2>/dev/null | awk '$1 == "Candidate:" { print $2 }'; }

# The newest finished one, or nothing.
rustc_web_sysroot() {
    local found=""
    for found in "$cache"/rustc-web-*/usr; do :; done
    if [ -d "$found" ]; then echo "$found"; fi
}

rustup_has_wasm() { [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]; }

have_wasm_target() { rustup_has_wasm || [ -n "$(rustc_web_sysroot)" ]; }

# What must be set to compile for the browser and to run wasm-pack: the tools' folder, and the compiler where it is not the
# usual one. wasm-pack asks the `rustc` on PATH for the target, and cargo the one that RUSTC names.
wasm_env() {
    export PATH
    PATH=$cache/bin:$PATH
    if ! rustup_has_wasm; then
        RUSTC=$(rustc_web_sysroot)/bin/rustc
        RUSTDOC=$(rustc_web_sysroot)/bin/rustdoc
        PATH=${RUSTC%/rustc}:$PATH
        export RUSTC RUSTDOC
    fi
}

# clippy for the browser, after wasm_env: the one that belongs to the compiler.
wasm_clippy() {
    if [ -n "${RUSTC:-}" ]; then
        cargo-clippy clippy "$@"
    else
        cargo clippy "$@"
    fi
}

install_wasm_target() {
    have_wasm_target && return
    # Where the network is closed, rustup tries for a long time.
    if command -v rustup >/dev/null && within 120 rustup target add wasm32-unknown-unknown; then return; fi
    if command -v apt-get >/dev/null && [ -n "$(rustc_web_version)" ]; then
        install_rustc_web
    else
        need "The standard library for wasm32-unknown-unknown is missing. Install it with
  rustup target add wasm32-unknown-unknown
or from the packages that your Rust came from (Fedora: rust-std-static-wasm32-unknown-unknown)."
    fi
}

install_rustc_web() {
    local version temporary sysroot host library package program wasm_lib
    version=$(rustc_web_version)
    mkdir -p "$cache"
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # The name is wanted now: it is a local one, gone when the trap runs.
    trap "rm -rf '$temporary'" EXIT
    # apt drops its rights for a download and then cannot write here; it goes on without dropping them, and says so.
    mkdir "$temporary/packages"
    cd "$temporary/packages"
    # shellcheck disable=SC2086
    apt-get download $rustc_web_packages
    # The names of the rest carry versions, so they are read from the packages.
    package=$(dpkg-deb -f libstd-rust-web-dev_*.deb Depends | grep -o 'libstd-rust-web-[0-9.]*' | head -n 1)
    apt-get download "$package"
    library=$(dpkg-deb -f "$package"_*.deb Depends | grep -o 'libllvm[0-9]*' | head -n 1)
    apt-get download "$library" "lld-${library#libllvm}"
    # LLVM's own libraries, where this system does not have them.
    for package in libedit2 libffi8 libxml2 libz3-4 libzstd1 zlib1g; do
        dpkg -s $package >/dev/null 2>&1 || apt-get download $package
    done
    for package in *.deb; do dpkg-deb -x "$package" "$temporary/toolchain"; done

    # Debian keeps libraries in a folder of the architecture, where only Debian's own linker looks. rustc expects them in
    # the folder above, and a script in the compiler's place tells the linker.
    sysroot=$temporary/toolchain/usr
    mv "$sysroot"/lib/*-linux-gnu/*.so* "$sysroot/lib/"
    for program in rustc rustdoc clippy-driver cargo-clippy; do
        mv "$sysroot/bin/$program" "$sysroot/bin/$program.debian"
        printf '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH=$here/../lib exec "$here/%s.debian" "$@"\n' $program \
            >"$sysroot/bin/$program"
        chmod +x "$sysroot/bin/$program"
    done
    host=$("$sysroot/bin/rustc" -vV | awk '$1 == "host:" { print $2 }')
    mkdir -p "$sysroot/lib/rustlib/$host/bin"
    for program in "$sysroot"/bin/lld-*; do
        ln -sf "../../../../bin/${program##*/}" "$sysroot/lib/rustlib/$host/bin/rust-lld"
    done

    # std is what a crate without code depends on. The nightly option builds it; the compiler stays a stable one.
    mkdir -p "$temporary/std/src"
    : >"$temporary/std/src/lib.rs"
    printf '[package]\nname = "nothing"\nversion = "0.0.0"\nedition = "2021"\n' >"$temporary/std/Cargo.toml"
    cd "$temporary/std"
    RUSTC=$sysroot/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$temporary/std/target \
        cargo build --release -Zbuild-std=std,panic_abort,test --target wasm32-unknown-unknown
    wasm_lib=$sysroot/lib/rustlib/wasm32-unknown-unknown/lib
    mkdir -p "$wasm_lib"
    cp "$temporary"/std/target/wasm32-unknown-unknown/release/deps/*.rlib "$wasm_lib/"
    rm -f "$wasm_lib"/libnothing-*.rlib
    # The one with shared memory (wasm_threads.sh) too, while its source is there; the page does without where that fails.
    (set -e; export RUSTC=$sysroot/bin/rustc; build_wasm_threads_std) &
    wait $! || echo "the standard library does not compile with threads"
    # The source has served; it is most of the size.
    rm -rf "$sysroot/src" "$sysroot/share"
    rm -rf "$cache/rustc-web-$version"
    mv "$temporary/toolchain" "$cache/rustc-web-$version"
}
