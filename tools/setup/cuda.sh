# What `build.sh cuda` compiles with: NVIDIA's compiler from PyPI, and libraries to link with. Sourced by setup.sh, which
# is sourced by build.sh, which sets `root` and `cache`.
#
# The compiler is 13.0, whose programs run with drivers from 580 on; cudarc knows versions up to 13.4 and refuses others.
# Of the libraries only the names count when linking: neither a driver nor CUDA's own libraries are needed here.

cuda_version=13.0.88
cuda_wheels="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
nvidia-cuda-cccl==13.0.85"

cuda_home() { echo "$cache/cuda-$cuda_version-cudarc-$(locked_version cudarc)"; }

have_cuda() { [ -x "$(cuda_home)/bin/nvcc" ]; }

install_cuda() {
    have_cuda && return
    [ "$(uname -sm)" = "Linux x86_64" ] || need "the CUDA build is for Linux on x86-64, not for $(uname -sm)"
    command -v c++ >/dev/null || need "c++ is missing: nvcc compiles with the C++ compiler of the system (g++)"
    python3 -m pip --version >/dev/null 2>&1 || need "python3 with pip is missing: the CUDA compiler comes from PyPI"
    mkdir -p "$cache"
    local temporary wheel
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # The name is wanted now: it is a local one, gone when the trap runs.
    trap "rm -rf '$temporary'" EXIT
    # shellcheck disable=SC2086
    python3 -m pip download --no-deps --only-binary=:all: --platform manylinux2014_x86_64 -d "$temporary" $cuda_wheels
    for wheel in "$temporary"/*.whl; do python3 -m zipfile -e "$wheel" "$temporary"; done
    local home=$temporary/nvidia/cu13
    # A wheel does not keep what may be run.
    chmod +x "$home"/bin/* "$home"/nvvm/bin/*
    ln -s lib "$home/lib64"
    ln -s libcudart.so.13 "$home/lib/libcudart.so"
    cuda_stubs "$home/lib/stubs"
    rm -rf "$(cuda_home)"
    mv "$home" "$(cuda_home)"
}

# cuda_stubs <folder>: libraries that have the names which cudarc asks for. At run time the real ones take their place; these
# refuse everything with 34, CUDA_ERROR_STUB_LIBRARY.
cuda_stubs() {
    local sources name
    sources=$(cargo metadata --format-version 1 --locked --features cuda --filter-platform x86_64-unknown-linux-gnu |
        grep -oE '"manifest_path":"[^"]*/cudarc[^/"]*/Cargo\.toml"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$sources" ] || need "the sources of the crate cudarc were not found"
    sources=${sources%/Cargo.toml}/src
    mkdir -p "$1"
    while read -r library soname folder; do
        # A linker looks at names only, so that no function has its own arguments.
        grep -ohE 'fn (cu|nvrtc)[A-Za-z0-9_]+' "$sources/$folder/sys/mod.rs" | sort -u |
            sed 's/^fn \(.*\)/int \1(void) { return 34; }/' >"$1/$library.c"
        [ -s "$1/$library.c" ] || need "no function of $library was found in $sources/$folder"
        cc -shared -nostdlib -fPIC -w -Wl,-soname,"$soname" -o "$1/$library.so" "$1/$library.c"
    done <<'LIST'
libcuda libcuda.so.1 driver
libcublas libcublas.so.13 cublas
libcublasLt libcublasLt.so.13 cublaslt
libcurand libcurand.so.10 curand
libnvrtc libnvrtc.so.13 nvrtc
LIST
    # The C++ library becomes part of the program, which then runs where another version of it is.
    name=$(c++ -print-file-name=libstdc++.a)
    if [ -f "$name" ]; then ln -s "$name" "$1/libstdc++.a"; fi
}
