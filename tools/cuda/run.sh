#!/usr/bin/env bash
# Runs on a machine with an NVIDIA card what `./build.sh cuda` made on another: the parity tests on the card, a picture of
# the embedded model in 32 and in 16 bits, and how long a step of SD 1.5 takes.
#
#     tools/cuda/run.sh [FOLDER [PICTURES]]
#
# FOLDER holds the programs, as they are or packed as .xz; by default target/cuda of this checkout. What is compared with
# lies in this checkout too. PICTURES is where the two pictures are left. Needs an NVIDIA driver from 580 on and CUDA's libraries of version 13: those that
# LD_LIBRARY_PATH names or the system knows, or those that a PyTorch for CUDA 13 brought. Nothing is skipped in silence: a
# test that says so counts as a failure.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:-$root/target/cuda}
work=$(mktemp -d)
pictures=${2:-$work}
trap 'rm -rf "$work"' EXIT

export DARKROOM_FIXTURES=${DARKROOM_FIXTURES:-$root/tests/fixtures} DARKROOM_HUB=${DARKROOM_HUB:-$root/www/hub} DARKROOM_TEST_DEVICE=cuda RUST_BACKTRACE=0
libraries=$(python3 -c '
import os, nvidia
folders = [os.path.join(path, "cu13", "lib") for path in nvidia.__path__]
print(":".join(folder for folder in folders if os.path.isdir(folder)))' 2>/dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}${LD_LIBRARY_PATH:+${libraries:+:}}$libraries
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "there is no nvidia-smi here"

# program <name>: its path, unpacked where it is packed.
program() {
    if [ -f "$folder/$1" ]; then
        cp "$folder/$1" "$work/$1"
    elif [ -f "$folder/$1.xz" ]; then
        python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
            "$folder/$1.xz" "$work/$1"
    else
        echo "$folder has neither $1 nor $1.xz" >&2
        return 1
    fi
    chmod +x "$work/$1"
}

failed=0

# run <seconds> <name> <argument…>: at most so long; what it says goes out at once.
run() {
    local limit=$1 name=$2 start=$SECONDS status=0
    shift 2
    program "$name" || { failed=1; return; }
    echo "== $name $*"
    timeout "$limit" "$work/$name" "$@" 2>&1 | tee "$work/$name.log" || status=$?
    if grep -q 'skipped: ' "$work/$name.log"; then status="skipped tests"; fi
    echo "== $name: $([ "$status" = 0 ] && echo ok || echo "FAILED ($status)"), $((SECONDS - start)) s"
    [ "$status" = 0 ] || failed=1
}

# Its figures come before what takes minutes.
run 60 bench-cuda
run 150 modules-cuda --test-threads=4
model=$DARKROOM_HUB/darkroom/tiny-emoji/resolve/main
if [ -d "$model" ]; then
    for dtype in f32 f16; do
        # The settings of the committed picture (tools/fixtures/emoji.py).
        run 60 darkroom-cuda generate --device cuda --dtype $dtype --model "$model" \
            --prompt "a red apple on a blue background" --seed 1 --steps 6 --guidance 4 -o "$pictures/apple-$dtype.png"
        python3 - "$pictures/apple-$dtype.png" "$DARKROOM_FIXTURES/emoji/apple.png" <<'PYTHON'
import sys
try:
    from PIL import Image, ImageChops
    got, expected = (Image.open(name).convert("RGB") for name in sys.argv[1:])
    levels = ImageChops.difference(got, expected).getdata()
    print("== levels differ from diffusers' picture by", max(map(max, levels)), "at most and",
          round(sum(map(sum, levels)) / len(levels) / 3, 3), "on average")
except (ImportError, OSError) as error:
    print("== the picture is not compared:", error)
PYTHON
    done
fi
run 240 pipelines-cuda --test-threads=4
# Where the time goes, one operation after another.
CUDA_LAUNCH_BLOCKING=1 DARKROOM_ROUNDS=1 run 90 bench-cuda
exit $failed
