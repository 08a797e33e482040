#!/usr/bin/env bash
# nvcc, as candle-kernels' build script calls it (NVCC names this file), without the kernels for weights in GGUF's types. They
# take ten times as long to compile as all the others and half of the program's size; nothing here uses them, and the linker
# drops what calls them. Where one was called after all, linking would fail.
set -euo pipefail
left_out= object= folder=
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case ${arguments[i]} in
        *moe_*.cu | *mmq_*.cu | *mmvq_gguf.cu | *quantized.cu) left_out=${arguments[i]} ;;
        -o) object=${arguments[i + 1]} ;;
        --output-directory) folder=${arguments[i + 1]} ;;
    esac
done
if [ -z "$left_out" ]; then
    exec "$CUDA_HOME/bin/nvcc" "$@"
elif [ -n "$folder" ]; then
    : >"$folder/$(basename "$left_out" .cu).ptx"
else
    cc -x c -c -o "$object" - </dev/null
fi
