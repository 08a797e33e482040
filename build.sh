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
# shellcheck source=tools/kit/kit.sh
source tools/kit/kit.sh
# shellcheck source=tools/npm/npm.sh
source tools/npm/npm.sh

usage() {
    cat <<'TEXT'
./build.sh setup                    find or install what the other verbs need
./build.sh setup peers              install what `bench` compares with: onnxruntime-web, PyTorch, stable-diffusion.cpp (8 GB)
./build.sh types                    write the TypeScript of what crosses to the page, from the Rust types: src/web/types.d.ts
./build.sh wasm [--one-thread|--quick]
                                    compile for the browser into www/pkg and, with threads for the processor, www/pkg-threads, and
                                    print the sizes; --quick is for trying an edit: one thread, seconds instead of minutes, larger
./build.sh serve [--port N] [--one-thread|--quick]
                                    compile for the browser and serve the page (default port 8080)
./build.sh npm                      compile for the browser and pack target/npm/darkroom-*.tgz for npm, without a model
./build.sh cuda                     compile for NVIDIA cards: the program, its parity tests and a bench, in target/cuda
./build.sh env                      print what puts wasm-pack and its tools on PATH: eval "$(./build.sh env)"
./build.sh test [native|web|firefox|node|page]  all tests, or those of one kind; what follows goes to the test runner
./build.sh test npm [NAME ...]      the npm package in new projects: Vite 5 and 8, webpack 5, esbuild, TypeScript; minutes, and from
                                    the npm registry, so that `test` alone leaves it out
./build.sh check                    formatting, lints of both targets, types of the JavaScript, documentation, invariants, shaders,
                                    fuzzing
./build.sh bench [NAME ...]         measure on this machine: browser, native, kernels, weights, memory, lora,
                                    stream, visit, serve, or all of them
./build.sh kit [--with-model]       pack target/kit.tar.xz, which tells all about a borrowed machine's graphics card
./build.sh kit test                 what that does, on this machine's adapter
TEXT
}

# The page and the lints are compiled with these, so that they share their dependencies.
wasm_flags=(--target wasm32-unknown-unknown --profile web --no-default-features)

# How the page's modules are linked. LTO belongs to this link alone: the tests link the same libraries without it, which is much
# faster. One unit compiles nothing twice (a seventh of the bytes), and functions are inlined only where that makes the module
# smaller (a fifth). Loops still become vectors, unlike with opt-level "s", so that drawing is as fast.
link_flags=(-Clto=fat -Ccodegen-units=1 -Cllvm-args=-inline-threshold=5 -Cllvm-args=-inlinehint-threshold=60)

build_wasm() {
    wasm_env
    cargo rustc --lib --crate-type cdylib "${wasm_flags[@]}" -- "${link_flags[@]}"
    # www/pkg is up to date: keep it, and with it the module with threads and the compressed copies.
    local built=$target/wasm32-unknown-unknown/web/darkroom.wasm
    if is_of www/pkg "$built"; then list_files; return; fi
    # A fresh folder that takes the old one's place, so that a page never loads half of one build and half of another.
    rm -rf www/pkg.new
    # The names of functions are a twelfth of what is downloaded.
    wasm-bindgen --target web --remove-name-section --remove-producers-section --out-dir www/pkg.new "$built"
    # The module with threads is of an older build now.
    rm -rf www/pkg-threads
    say_threads null www/pkg.new
    made_of "$built" >www/pkg.new/.made_of
    rm -rf www/pkg
    mv www/pkg.new www/pkg
    list_files
}

# made_of <wasm>: what a folder is made of, in a line: the compiler's output and what turns it into a module of the page.
made_of() {
    local digest=(sha256sum)
    command -v sha256sum >/dev/null || digest=(shasum -a 256)
    echo "$("${digest[@]}" <"$1" | cut -c 1-64) wasm-bindgen $(locked_version wasm-bindgen)"
}

# is_of <folder> <wasm>: whether it is made of that already.
is_of() { [ "$(cat "$1/.made_of" 2>/dev/null)" = "$(made_of "$2")" ]; }

# The module that has a thread for each core: the same code for a standard library with shared memory. Nothing where there is no
# such library. wasm-bindgen's crates use what a stable compiler hides in such a build.
compile_wasm_threads() {
    wasm_env
    have_wasm_threads || return 0
    local sysroot
    sysroot=$(wasm_threads_sysroot)
    RUSTC_BOOTSTRAP=1 cargo rustc --lib --crate-type cdylib --target wasm32-unknown-unknown --profile web-threads --no-default-features \
        --config "target.wasm32-unknown-unknown.rustflags = ['$wasm_threads_features', '--sysroot=$sysroot']" -- "${link_flags[@]}" \
        -Clink-arg=--shared-memory -Clink-arg=--import-memory -Clink-arg=--max-memory=4294967296 \
        -Clink-arg=--export={__wasm_init_tls,__tls_size,__tls_align,__tls_base}
}

# Builds the module without threads while the one with threads compiles: each link keeps one core busy for minutes. What fails of
# the latter is reported by build_wasm_threads, which comes next.
build_wasm_beside_threads() {
    compile_wasm_threads >"$log/wasm-threads-ahead.log" 2>&1 &
    local ahead=$!
    build_wasm
    wait $ahead || true
}

# Builds the module without threads alone, also where the other one was built before.
build_wasm_alone() {
    build_wasm
    rm -rf www/pkg-threads
    say_threads null www/pkg
    list_files
}

# The same to try an edit with: of this crate only what changed is compiled again, and nothing is optimised over the whole program.
build_wasm_quick() {
    link_flags=(-Clto=off -Copt-level=1 -Ccodegen-units=256 -Cincremental="$target/web-quick")
    build_wasm_alone
}

build_wasm_threads() {
    compile_wasm_threads
    have_wasm_threads || return 0
    local built=$target/wasm32-unknown-unknown/web-threads/darkroom.wasm
    if ! is_of www/pkg-threads "$built"; then
        rm -rf www/pkg-threads.new
        wasm-bindgen --target web --no-typescript --remove-name-section --remove-producers-section \
            --out-dir www/pkg-threads.new "$built"
        made_of "$built" >www/pkg-threads.new/.made_of
        rm -rf www/pkg-threads
        mv www/pkg-threads.new www/pkg-threads
    fi
    say_threads '"pkg-threads/darkroom"' www/pkg
    list_files
}

# say_threads <module> <folder>: writes for the page where the module with threads is, without the ending; or null.
say_threads() {
    cat >"$2/threads.js" <<TEXT
// Made by build.sh: the module with threads, where this build has one.
/** @type {string | null} */
export const threads_module = $1;
TEXT
}

# The page's files with their digests, for the service worker (www/sw.js), which keeps all of one build or nothing; those of the
# module with threads it keeps once a page asked for them. What is not listed comes from the network: that is for readers of the
# repository. Written again whenever a file of the page has changed.
list_files() {
    local digest=(sha256sum) line='s|^([0-9a-f]+) [ *]\./(.*)$|    "\2": "\1",|'
    command -v sha256sum >/dev/null || digest=(shasum -a 256)
    (
        cd www
        find . -type f ! -path './pkg.new/*' ! -path './pkg-threads.new/*' ! -path ./pkg/files.js ! -path ./sw.js ! -name '*.d.ts' ! -name 'screenshot*' ! -name '.*' ! -name '*.br' ! -name '*.gz' -print0 |
            LC_ALL=C sort -z | xargs -0 "${digest[@]}" >"$log/files.txt"
        {
            echo "// Made by build.sh: the files of this build."
            printf 'globalThis.darkroom_files = {\n  build: "%s",\n  files: {\n' "$("${digest[@]}" <"$log/files.txt" | cut -c 1-16)"
            grep -v ' [ *]\./pkg-threads/' "$log/files.txt" | sed -E "$line"
            printf '  },\n  once_asked_for: {\n'
            sed -n -E '\| [ *]\./pkg-threads/|{'"$line"';p;}' "$log/files.txt"
            printf '  },\n};\n'
        } >pkg/files.js.new
        mv pkg/files.js.new pkg/files.js
    )
}

# Compressed copies beside the wasm and its JavaScript, for servers that send such files as they are (both of ours do): a third
# of the bytes goes over the line with Brotli, somewhat more with gzip. They lie in folders that are made anew with what they are
# copies of, so that none is of another build, whatever copies the folders.
compress_files() {
    local file jobs=() job
    # Those of another build that compressed more.
    find www -type f \( -name '*.br' -o -name '*.gz' \) ! -path 'www/pkg/*' ! -path 'www/pkg-threads/*' -delete
    for file in www/pkg{,-threads}/darkroom{.js,_bg.wasm}; do
        [ -f "$file" ] || continue
        if [ ! "$file.gz" -nt "$file" ]; then gzip -9 -n -c "$file" >"$file.new"; mv "$file.new" "$file.gz"; fi
        command -v brotli >/dev/null || continue
        # The highest level saves a tenth; it takes 20 s for a module, so both go at once.
        if [ ! "$file.br" -nt "$file" ]; then
            { brotli -q 11 -w 24 -c "$file" >"$file.br.new" && mv "$file.br.new" "$file.br"; } &
            jobs+=($!)
        fi
    done
    for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job"; done
}

# What both modules take, and what of it goes over the line.
wasm_size() {
    local file ending
    for file in www/pkg{,-threads}/darkroom_bg.wasm; do
        [ -f "$file" ] || continue
        printf '%s: %s bytes' "$file" "$(wc -c <"$file" | tr -d ' ')"
        for ending in br gz; do
            if [ -f "$file.$ending" ]; then printf ', .%s %s' $ending "$(wc -c <"$file.$ending" | tr -d ' ')"; fi
        done
        echo
    done
}

write_types() { DARKROOM_WRITE_TYPES=1 cargo test --lib typescript_declarations; }

verb_types() {
    verb_setup_for native
    stage "types" write_types
}

verb_wasm() {
    case ${1:-} in
        "") verb_setup_for "build threads" ;;
        --one-thread | --quick) verb_setup_for build ;;
        *) echo "wasm does not know $1" >&2; exit 2 ;;
    esac
    case ${1:-} in
        --quick) stage "wasm quick" build_wasm_quick; return ;;
        --one-thread) stage "wasm" build_wasm_alone ;;
        *)
            stage "wasm" build_wasm_beside_threads
            stage "wasm threads" build_wasm_threads
            ;;
    esac
    stage "compressed copies" compress_files
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
    local port=8080 how=()
    while [ $# -gt 0 ]; do
        case $1 in
            --port) port=${2:?--port needs a number}; shift 2 ;;
            --one-thread | --quick) how=("$1"); shift ;;
            *) echo "serve does not know $1" >&2; exit 2 ;;
        esac
    done
    verb_wasm ${how[@]+"${how[@]}"}
    stage "web server" build_server
    exec "$target/serve" www "$port"
}

# For CUDA. A linker that looks elsewhere for the C library is named to cargo as ever, by
# CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER; with an old enough library the programs run on old systems too.
build_cuda() {
    CUDA_HOME=$(cuda_home)
    # Kernels as text that the driver compiles for the card at hand, from compute capability 8.0 on. 90 would ask for the
    # instructions of that chip alone.
    export CUDA_HOME NVCC=$root/tools/cuda/nvcc.sh PATH=$CUDA_HOME/bin:$PATH CUDA_COMPUTE_CAP=80
    cargo build --profile cuda --features cuda --bin darkroom --test modules --test pipelines --bench cuda --message-format json \
        >"$log/cuda.json"
    local name file
    for name in darkroom modules pipelines cuda; do
        file=$(grep -oE '"executable":"[^"]*/'"$name"'(-[0-9a-f]+)?"' "$log/cuda.json" | tail -n 1 | cut -d '"' -f 4)
        [ "$name" != cuda ] || name=bench
        cp "$file" "$target/cuda/$name-cuda"
    done
}

verb_cuda() {
    local name
    verb_setup_for cuda
    stage "cuda" build_cuda
    for name in darkroom modules pipelines bench; do
        wc -c "$target/cuda/$name-cuda" | awk '{ printf "%s: %d bytes\n", $2, $1 }'
    done
}

test_native() { cargo test --no-fail-fast "$@"; }

# The tests of the wasm build, as people run them. Flags and settings of the browsers come from webdriver.json, patience
# from .cargo/config.toml. Arguments are for `cargo test`, and come behind the crate's path.
wasm_pack_test() {
    local where=(--headless "--$1")
    shift
    if [ "${where[1]}" = --node ]; then where=(--node); fi
    if [ $# -gt 0 ]; then where+=(. "$@"); fi
    wasm_env
    wasm-pack test "${where[@]}"
}

# Every test of the wasm build compiles, also those that a run leaves out.
build_wasm_tests() {
    wasm_env
    cargo build --tests --target wasm32-unknown-unknown
}

test_web() { wasm_pack_test chrome "$@"; }

# The same in Firefox, which has 16-bit kernels and the smallest limits that WebGPU allows.
test_firefox() { wasm_pack_test firefox "$@"; }

# What needs no GPU, without a browser.
test_node() { wasm_pack_test node "$@"; }

test_page() { cargo test --test page --test download_page "$@"; }

verb_test() {
    local kind=${1:-all} failed=0
    [ $# -eq 0 ] || shift
    case $kind in
        native) verb_setup_for native ;;
        npm) verb_setup_for browser; verb_setup_for check ;;
        page | all) verb_setup_for "browser threads" ;;
        web | firefox | node) verb_setup_for browser ;;
        *) usage >&2; exit 2 ;;
    esac
    temporary_folder
    tally_start
    # One kind that fails does not hide what the others would say.
    case $kind in native | all) attempt_tests "test native" test_native "$@"; failed=$((failed | status)) ;; esac
    case $kind in
        all)
            attempt "build wasm tests" build_wasm_tests
            if [ $status -ne 0 ]; then tally_failure; failed=1; fi
            ;;
    esac
    case $kind in web | all) attempt_tests "test web" test_web "$@"; failed=$((failed | status)) ;; esac
    case $kind in firefox | all) attempt_tests "test firefox" test_firefox "$@"; failed=$((failed | status)) ;; esac
    case $kind in
        node) attempt_tests "test node" test_node "$@"; failed=$((failed | status)) ;;
        all)
            # Nothing else asks for Node, so it is no reason to install it.
            if command -v node >/dev/null; then
                attempt_tests "test node" test_node "$@"
                failed=$((failed | status))
            else
                echo "test node               left out: there is no node here"
            fi
            ;;
    esac
    case $kind in
        page | all)
            attempt "wasm" build_wasm_beside_threads
            if [ $status -eq 0 ]; then attempt "wasm threads" build_wasm_threads; fi
            if [ $status -eq 0 ]; then attempt_tests "test page" test_page "$@"; else tally_failure; fi
            failed=$((failed | status))
            ;;
    esac
    case $kind in
        npm)
            verb_npm
            attempt_tests "test npm" test_npm "$@"
            failed=$((failed | status))
            ;;
    esac
    tally_print
    [ $failed -eq 0 ]
}

# Tests that are left out where all are asked for are named: `--all-targets` takes no names beside it.
clippy_native() {
    export CLIPPY_CONF_DIR=$root/clippy/native
    cargo clippy --all-targets -- -D warnings
    cargo clippy --test page --test download_page -- -D warnings
}

clippy_wasm() {
    wasm_env
    CLIPPY_CONF_DIR=$root/clippy/wasm wasm_clippy "${wasm_flags[@]}" --lib --test web --test web_model --test node -- -D warnings
}

# The page's JavaScript, whose types are JSDoc, against those of the wasm that it calls.
javascript() { "$(tsc_bin)" --project "$root/tsconfig.json"; }

# Without the runners' features: files, prompts and samplers alone. In a folder of its own, as it has other dependencies.
smallest() { cargo check --lib --no-default-features --target-dir "$target/smallest"; }

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib; }

# A time for each target, which run side by side. DARKROOM_FUZZ_SECS=600 is for a night.
fuzz() { DARKROOM_FUZZ_SECS=${DARKROOM_FUZZ_SECS:-4} cargo test --test fuzz -- --nocapture; }

verb_check() {
    local failed=0
    verb_setup_for check
    # All of them run, so that one look shows all there is to mend.
    attempt "rustfmt" cargo fmt --all --check; failed=$((failed | status))
    attempt "clippy native" clippy_native; failed=$((failed | status))
    attempt "clippy wasm" clippy_wasm; failed=$((failed | status))
    # Not a lint, but what the JavaScript is checked against: `test page` wants the same builds.
    attempt "wasm" build_wasm_beside_threads; failed=$((failed | status))
    if [ $status -eq 0 ]; then attempt "wasm threads" build_wasm_threads; failed=$((failed | status)); fi
    attempt "javascript" javascript; failed=$((failed | status))
    attempt "npm package" build_npm; failed=$((failed | status))
    attempt "npm types" check_npm_types; failed=$((failed | status))
    attempt "docs" docs; failed=$((failed | status))
    attempt "features" smallest; failed=$((failed | status))
    attempt "invariants and shaders" cargo test --test invariants --test shaders; failed=$((failed | status))
    attempt "types" cargo test --lib declarations::; failed=$((failed | status))
    attempt "fuzz" fuzz; failed=$((failed | status))
    [ $failed -eq 0 ]
}

benches="browser native kernels weights memory lora stream visit serve"

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
        *" stream "* | *" browser "* | *" visit "*)
            verb_setup_for "browser threads"
            stage "wasm" build_wasm_beside_threads
            stage "wasm threads" build_wasm_threads
            stage "compressed copies" compress_files
            ;;
    esac
    temporary_folder
    have_peers || echo "without onnxruntime-web, PyTorch and stable-diffusion.cpp: ./build.sh setup peers brings them"
    stage "compile" cargo bench --no-run "${flags[@]}"
    cargo bench --quiet "${flags[@]}"
}

# For a shell in which people call cargo and wasm-pack themselves.
verb_env() {
    local before=$PATH
    link_tools
    wasm_env
    if ! rustup_has_wasm; then printf 'export RUSTC=%q RUSTDOC=%q\n' "$RUSTC" "$RUSTDOC"; fi
    printf 'export PATH=%q:"$PATH"\n' "${PATH%:"$before"}"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    setup | env | types | wasm | serve | npm | cuda | test | check | bench | kit) "verb_$verb" "$@" ;;
    *) usage; [ -z "$verb" ] || exit 2 ;;
esac
