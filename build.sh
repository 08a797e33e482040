#!/usr/bin/env bash
# One verb a thing; run without arguments for the list. Works from any folder. Each stage prints one line with the seconds
# it took and keeps what the tools said in target/log/, of which a failure shows the end. VERBOSE=1 shows it all.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"

# Tools and toolchains that `setup` builds live here, by version; deleting the folder costs time and nothing else.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/darkroom
target=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR=$target
log=$target/log
mkdir -p "$log"

# shellcheck source=tools/setup/stage.sh
source tools/setup/stage.sh
# shellcheck source=tools/setup/setup.sh
source tools/setup/setup.sh

usage() {
    cat <<'TEXT'
./build.sh setup                    find or install what the other verbs need
./build.sh setup peers              install what `bench` compares with: onnxruntime-web, PyTorch, stable-diffusion.cpp (8 GB)
./build.sh wasm                     compile for the browser into www/pkg and print the size
./build.sh serve [--port N]         compile for the browser and serve the page (default port 8080)
./build.sh test [native|web|firefox|page]  all tests, or those of one kind; what follows goes to the test runner
./build.sh check                    formatting, lints of both targets, documentation, invariants, shaders, fuzzing
./build.sh bench [NAME ...]         measure on this machine: browser, native, kernels, stream, or all of them
TEXT
}

# Everything for the browser is compiled with these, so that the page, the tests and the lints share their dependencies.
wasm_flags=(--target wasm32-unknown-unknown --profile web --no-default-features)

build_wasm() {
    wasm_env
    # LTO belongs to this link alone: the tests link the same libraries without it, which is much faster.
    cargo rustc --lib --crate-type cdylib "${wasm_flags[@]}" -- -Clto=fat
    # A fresh folder that takes the old one's place, so that a page never loads half of one build and half of another.
    rm -rf www/pkg.new
    wasm-bindgen --target web --out-dir www/pkg.new "$target/wasm32-unknown-unknown/web/darkroom.wasm"
    rm -rf www/pkg
    mv www/pkg.new www/pkg
}

wasm_size() {
    local file=www/pkg/darkroom_bg.wasm packed="unknown (brotli is not installed)"
    if command -v brotli >/dev/null; then packed="$(brotli -c -q 11 $file | wc -c | tr -d ' ') bytes"; fi
    echo "$file: $(wc -c <$file | tr -d ' ') bytes, with brotli $packed"
}

verb_wasm() {
    verb_setup_for build
    stage "wasm" build_wasm
    wasm_size
}

build_server() {
    # Only when the source is newer: rustc alone has no notion of what is up to date.
    if [ ! -x "$target/serve" ] || [ -n "$(find tools/serve -newer "$target/serve")" ]; then
        rustc --edition 2024 -O -o "$target/serve.new" tools/serve/main.rs
        mv "$target/serve.new" "$target/serve"
    fi
}

verb_serve() {
    local port=8080
    while [ $# -gt 0 ]; do
        case $1 in
            --port) port=${2:?--port needs a number}; shift 2 ;;
            *) echo "serve does not know $1" >&2; exit 2 ;;
        esac
    done
    verb_wasm
    stage "web server" build_server
    exec "$target/serve" www "$port"
}

test_native() { cargo test --no-fail-fast "$@"; }

test_web() {
    wasm_env
    # This is what `wasm-pack test --headless --chrome` does, less its first step, which compiles every native test and
    # every unit test for the browser as well. Flags for Chromium come from webdriver.json.
    # The software adapter compiles shaders slowly, and a busy machine more so: the runner gives up after 20 s otherwise.
    CHROMEDRIVER=$(command -v chromedriver) WASM_BINDGEN_TEST_ONLY_WEB=1 WASM_BINDGEN_TEST_TIMEOUT=300 \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
        cargo test "${wasm_flags[@]}" --test web --test web_model "$@"
}

# The same in Firefox, which has 16-bit kernels and the smallest limits that WebGPU allows: every kernel, and a picture.
test_firefox() {
    wasm_env
    GECKODRIVER=$(geckodriver_bin) WASM_BINDGEN_TEST_ONLY_WEB=1 WASM_BINDGEN_TEST_TIMEOUT=300 \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
        cargo test "${wasm_flags[@]}" --test web --test web_model "$@"
}

test_page() { cargo test --test page --test download_page "$@"; }

verb_test() {
    local kind=${1:-all} failed=0
    [ $# -eq 0 ] || shift
    case $kind in
        native) verb_setup_for native ;;
        web | firefox | page | all) verb_setup_for browser ;;
        *) usage >&2; exit 2 ;;
    esac
    tally_start
    # One kind that fails does not hide what the others would say.
    case $kind in native | all) attempt_tests "test native" test_native "$@"; failed=$((failed | status)) ;; esac
    case $kind in web | all) attempt_tests "test web" test_web "$@"; failed=$((failed | status)) ;; esac
    case $kind in firefox | all) attempt_tests "test firefox" test_firefox "$@"; failed=$((failed | status)) ;; esac
    case $kind in
        page | all)
            attempt_tests "wasm" build_wasm
            if [ $status -eq 0 ]; then attempt_tests "test page" test_page "$@"; fi
            failed=$((failed | status))
            ;;
    esac
    tally_print
    [ $failed -eq 0 ]
}

clippy_native() { CLIPPY_CONF_DIR=$root/clippy/native cargo clippy --all-targets --test page --test download_page -- -D warnings; }

clippy_wasm() {
    wasm_env
    CLIPPY_CONF_DIR=$root/clippy/wasm wasm_clippy "${wasm_flags[@]}" --lib --test web --test web_model -- -D warnings
}

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib; }

# A time for each target, which run side by side. DARKROOM_FUZZ_SECS=600 is for a night.
fuzz() { DARKROOM_FUZZ_SECS=${DARKROOM_FUZZ_SECS:-10} cargo test --test fuzz -- --nocapture; }

verb_check() {
    local failed=0
    verb_setup_for check
    # All of them run, so that one look shows all there is to mend.
    attempt "rustfmt" cargo fmt --all --check; failed=$((failed | status))
    attempt "clippy native" clippy_native; failed=$((failed | status))
    attempt "clippy wasm" clippy_wasm; failed=$((failed | status))
    attempt "docs" docs; failed=$((failed | status))
    attempt "invariants and shaders" cargo test --test invariants --test shaders; failed=$((failed | status))
    attempt "fuzz" fuzz; failed=$((failed | status))
    [ $failed -eq 0 ]
}

benches="browser native kernels stream"

verb_bench() {
    local flags=() names="" name
    for name in "$@"; do
        case " $benches " in
            *" $name "*) names="$names $name" ;;
            *) [ "$name" = --bench ] || { echo "bench knows $benches, not $name" >&2; exit 2; } ;;
        esac
    done
    for name in ${names:-$benches}; do flags+=(--bench "$name"); done
    verb_setup_for native
    # Those that drive a browser need one, and the page's wasm.
    case " ${names:-$benches} " in
        *" stream "* | *" browser "*) verb_setup_for browser; stage "wasm" build_wasm ;;
    esac
    have_peers || echo "without onnxruntime-web, PyTorch and stable-diffusion.cpp: ./build.sh setup peers brings them"
    stage "compile" cargo bench --no-run "${flags[@]}"
    cargo bench --quiet "${flags[@]}"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    setup | wasm | serve | test | check | bench) "verb_$verb" "$@" ;;
    *) usage; [ -z "$verb" ] || exit 2 ;;
esac
