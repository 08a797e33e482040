# `build.sh kit`: one archive with which a borrowed machine tells all about its graphics card. Sourced by build.sh, which
# sets `root`, `target` and `log`.
#
# Programs are linked for glibc 2.31 where Debian's archive can be reached (sysroot.sh), and the verb fails if one of them
# asks for a later one. What goes in is listed in `fill_kit`; what is run there, in run.sh.

# shellcheck source=tools/kit/wheels.sh
source "$root/tools/kit/wheels.sh"

# The kit has to fit where files are handed over by size.
max_kit_bytes=$((30 << 20))

kit=$target/kit

# Builds, and leaves lines `name path` in the log folder. What follows goes to cargo.
build_kit_programs() {
    cargo test --no-run --message-format json-render-diagnostics "$@" \
        --test gpu --test gpu_pipelines --bench card >"$log/kit-programs.json"
    sed -n 's/.*"target":{[^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' "$log/kit-programs.json" >"$log/kit-programs"
    local name
    rm -rf "$kit"
    mkdir -p "$kit/bin"
    for name in darkroom gpu gpu_pipelines card; do
        cp "$(awk -v name=$name '$1 == name { print $2 }' "$log/kit-programs" | tail -n 1)" "$kit/bin/$name"
    done
}

build_kit_release() {
    local linker
    linker=$("$root/tools/kit/sysroot.sh") ||
        echo "Debian's archive is out of reach: programs are linked with this system's glibc" >&2
    PATH=${linker:+$linker:}$PATH build_kit_programs --release
    # The peer that needs no Python. A crate of its own, with its own lock file.
    PATH=${linker:+$linker:}$PATH cargo build --release --locked --manifest-path tools/peers/burn/Cargo.toml \
        --target-dir "$target/burn-peer"
    cp "$target/burn-peer/release/burn-peer" "$kit/bin/"
    strip "$kit"/bin/*
}

# kit_glibc <folder>: the latest glibc that the programs in it ask for.
kit_glibc() { find "$1" -type f -perm -u+x ! -name '*.sh' -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 | sed 's/GLIBC_//'; }

check_kit_glibc() {
    local wants
    # CUDA's programs are linked with the system's C++ library, and so with its glibc.
    if [ -d "$kit/cuda" ]; then echo "CUDA's programs want glibc $(kit_glibc "$kit/cuda")"; fi
    wants=$(kit_glibc "$kit/bin")
    echo "the kit's programs want glibc $wants"
    [ "$(printf '%s\n2.31\n' "$wants" | sort -V | tail -n 1)" = 2.31 ] ||
        if [ -d "$cache/sysroot-2.31" ]; then need "which is later than 2.31"; fi
}

# Everything beside the programs. --with-model adds the embedded model.
fill_kit() {
    local name sysroot=$cache/sysroot-2.31
    cp tools/kit/run.sh "$kit/run.sh"
    mkdir -p "$kit/fixtures"
    for name in tiny pipelines any_size; do cp -r "tests/fixtures/$name" "$kit/fixtures/"; done
    if [ -d "$sysroot" ]; then cp -r "$sysroot/lib" "$sysroot/lib-2.34" "$sysroot/x11" "$kit/"; fi
    mkdir -p "$kit/peer"
    cp tools/kit/peer.py "$kit/peer/"
    cp -r src/model/published "$kit/peer/"
    # What `./build.sh cuda` made, where somebody had it made.
    if [ -x "$target/cuda/darkroom-cuda" ]; then
        mkdir -p "$kit/cuda"
        for name in darkroom modules pipelines bench; do strip -o "$kit/cuda/$name-cuda" "$target/cuda/$name-cuda"; done
        cp tools/cuda/run.sh "$kit/cuda/"
        for name in modules emoji; do cp -r "tests/fixtures/$name" "$kit/fixtures/"; done
    fi
    for name in "$@"; do
        if [ "$name" = --with-model ]; then cp -r www/hub "$kit/hub"; fi
    done
    git describe --always --dirty >"$kit/version" 2>/dev/null || echo unknown >"$kit/version"
}

# The Python packages that PyTorch's script needs; without them the kit is whole, but for the comparison.
fill_kit_wheels() {
    kit_wheels "$kit/peer" || echo "no wheels: PyTorch can be compared with only where diffusers is" >&2
}

pack_kit() {
    # Programs that share most of their code lie beside each other, within one window of the compressor.
    tar -C "$target" --sort=name -cf - kit | xz -9 -T1 >"$target/kit.tar.xz.new"
    mv "$target/kit.tar.xz.new" "$target/kit.tar.xz"
}

# The kit as a whole on this machine's adapter, from the programs that `test native` has compiled: no release build and no
# archive, so that it takes a link and a minute. Its limits are for machines that have other work.
test_kit() {
    local out status=0
    out=$(mktemp -d)
    build_kit_programs
    fill_kit --with-model
    "$kit/run.sh" "$out" 600 || status=$?
    ls -l "$out"
    [ "$(cat "$out"/kit.* | wc -c)" -lt 1048576 ] || need "the report is larger than it may be"
    grep -q '"kind":"profile"' "$out/kit.json" || need "the report has no profile"
    rm -rf "$out"
    return $status
}

verb_kit() {
    verb_setup_for native
    if [ "${1:-}" = test ]; then
        stage "kit test" test_kit
        return
    fi
    local name
    for name in "$@"; do [ "$name" = --with-model ] || { echo "kit knows test and --with-model, not $name" >&2; exit 2; }; done
    stage "kit programs" build_kit_release
    stage "kit files" fill_kit "$@"
    stage "kit glibc" check_kit_glibc
    tail -n 1 "$log/kit-glibc.log"
    stage "kit wheels" fill_kit_wheels
    stage "kit archive" pack_kit
    local n_bytes
    n_bytes=$(wc -c <"$target/kit.tar.xz")
    echo "$target/kit.tar.xz: $n_bytes bytes"
    case " $* " in *" --with-model "*) max_kit_bytes=$((max_kit_bytes + (20 << 20))) ;; esac
    [ "$n_bytes" -le $max_kit_bytes ] || { echo "the kit may have $max_kit_bytes bytes" >&2; exit 1; }
}
