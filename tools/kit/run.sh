#!/usr/bin/env bash
# run.sh FOLDER [SECONDS=420]: everything that this kit can find out about this machine's graphics card, the most telling
# things first. Leaves kit.txt and kit.json in the folder, complete after every item. `./build.sh kit` packs this script.
#
# KIT_ONLY="facts kernels" runs some of the items, by their first word.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:?run.sh FOLDER [SECONDS=420]}
limit=${2:-420}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/darkroom-kit.XXXXXX")
trap 'rm -rf "$work"' EXIT
rows=$work/rows.jsonl
text=$folder/kit.txt
: >"$rows"
: >"$text"
export DARKROOM_FIXTURES=${DARKROOM_FIXTURES:-$here/fixtures}
# What Mesa has compiled outlives the run: its software adapter compiles for minutes.
export MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-$work}/.cache}}
export XDG_CACHE_HOME=$work/cache
# Mesa complains where there is none.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work}
card=$here/bin/card
failed=0

left() { echo $((limit - SECONDS)); }

# Bytes of the text that an item may have, and all together: with kit.json, which bounds itself, less than a mebibyte.
max_item=40000
max_text=300000

# Shows what an item prints, and keeps as much of it as can be sent.
keep() {
    local line n=0 room
    room=$((max_text - $(wc -c <"$text")))
    if [ $room -gt $max_item ]; then room=$max_item; fi
    while IFS= read -r line; do
        printf '%s\n' "$line"
        n=$((n + ${#line} + 1))
        if [ $n -lt $room ]; then printf '%s\n' "$line" >>"$text"; fi
    done
}

say() { printf '%s\n' "$*" | keep; }

# What is found is in place at any time.
flush() { "$card" collect "$rows" "$folder/kit.json"; }

# item <name> <seconds at most> <command…>: the command, if there is time for it.
item() {
    local name=$1 most=$2 start=$SECONDS status
    shift 2
    if [ -n "${KIT_ONLY:-}" ]; then
        case " $KIT_ONLY " in *" ${name%% *} "*) ;; *) return ;; esac
    fi
    if [ "$(left)" -lt 5 ]; then
        say "== $name: left out, no time is left"
        "$card" note left_out "$name" "no time was left" --rows "$rows"
        return
    fi
    if [ "$most" -gt "$(left)" ]; then most=$(left); fi
    say "== $name ($SECONDS s, at most $most)"
    # The card's own deadline comes first, so that it ends by itself and says what it left out.
    KIT_SECS=$((most > 12 ? most - 6 : most)) timeout -k 5 "$most" "$@" </dev/null 2>&1 | keep
    status=${PIPESTATUS[0]}
    case $status in
        0) say "== $name: ok, $((SECONDS - start)) s" ;;
        124 | 137) say "== $name: STOPPED after $((SECONDS - start)) s"; failed=$((failed + 1)) ;;
        *) say "== $name: FAILED ($status), $((SECONDS - start)) s"; failed=$((failed + 1)) ;;
    esac
    "$card" note item "$name" "status $status, $((SECONDS - start)) s" --rows "$rows"
    flush
}

# card <arguments…>, for `item`: with the rows, the tiles and the time that the item has.
cat >"$work/card" <<WRAPPER
#!/bin/sh
exec "$card" --rows "$rows" --tiles "$work/tiles.json" --secs "\${KIT_SECS:-60}" "\$@"
WRAPPER
chmod +x "$work/card"

machine() {
    echo "kit $(cat "$here/version"), $(uname -sr), $(ldd --version 2>&1 | head -n 1), $(nproc) processors"
    grep -m 1 'model name' /proc/cpuinfo
    grep -E 'MemTotal|MemAvailable' /proc/meminfo
    df -h "$folder" /dev/shm 2>/dev/null
    cat /proc/driver/nvidia/version 2>/dev/null
    ls -d /dev/nvidia* /dev/dri/* 2>/dev/null | tr '\n' ' '
    echo
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,vbios_version,memory.total,memory.used,clocks.max.sm,clocks.max.mem,power.limit,pcie.link.gen.current,pcie.link.width.current --format=csv
    else
        echo "nvidia-smi is not here"
    fi
    # A loader tells which drivers it finds.
    ls /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/nvidia/share/vulkan/icd.d 2>/dev/null
}

# Vulkan: the system's loader or ours, and a driver, wherever a container's tools left it.

has_library() { ldconfig -p 2>/dev/null | grep -q "$1" || ls /usr/lib/*/"$1" /usr/lib64/"$1" >/dev/null 2>&1; }

adapter() { timeout -k 5 40 "$card" facts 2>/dev/null | sed -n 's/^ADAPTER //p'; }

use_driver() { export VK_ICD_FILENAMES=$1 VK_DRIVER_FILES=$1; }

find_vulkan() {
    local found file library loader=$here/lib glibc
    if ! has_library libvulkan.so.1; then
        glibc=$(ldd --version 2>&1 | sed -n '1s/.* //p')
        if [ "$(printf '%s\n2.34\n' "$glibc" | sort -V | head -n 1)" = 2.34 ]; then loader=$here/lib-2.34; fi
        export LD_LIBRARY_PATH=$loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        say "the system has no Vulkan loader: using the one in ${loader##*/}/ of the kit"
    fi
    found=$(adapter)
    case $found in gpu*) ADAPTER=$found; return ;; esac
    ADAPTER=$found
    ls /dev/nvidia0 /dev/nvidiactl >/dev/null 2>&1 || return
    say "there is an NVIDIA card, and Vulkan opens ${found:-nothing}: looking for its driver"
    # A container has the driver's library, but not always its file, and not always the X11 libraries that libGLX links;
    # libEGL has the same driver without them.
    : >"$work/icds"
    for library in libEGL_nvidia.so.0 libGLX_nvidia.so.0; do
        file=$(ldconfig -p 2>/dev/null | sed -n "s/.*$library.*=> //p" | head -n 1)
        [ -n "$file" ] || file=$(find /usr/lib /usr/lib64 /usr/local/nvidia -name "$library" 2>/dev/null | head -n 1)
        [ -n "$file" ] || { say "$library is not here"; continue; }
        printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.277"}}\n' "$file" >"$work/$library.json"
        echo "$work/$library.json" >>"$work/icds"
    done
    find /usr/local/nvidia /usr/share /etc /opt -maxdepth 6 -name 'nvidia*icd*.json' 2>/dev/null >>"$work/icds"
    local before=${LD_LIBRARY_PATH:-} more
    for more in "" "$here/x11"; do
        if [ -n "$more" ]; then export LD_LIBRARY_PATH=${before:+$before:}$more; fi
        while IFS= read -r file; do
            use_driver "$file"
            found=$(adapter)
            say "with $file${more:+ and X11 libraries of the kit}: ${found:-nothing}"
            case $found in gpu*) ADAPTER=$found; return ;; esac
        done <"$work/icds"
    done
    export LD_LIBRARY_PATH=$before
    unset VK_ICD_FILENAMES VK_DRIVER_FILES
}

# The embedded model: in the kit, or in a checkout around it.
find_model() {
    local place
    for place in "${DARKROOM_HUB:-}" "$here/hub" "$here/../www/hub" "$here/../../www/hub" "$PWD/www/hub"; do
        if [ -f "$place/darkroom/tiny-emoji/resolve/main/model_index.json" ]; then
            echo "$place/darkroom/tiny-emoji/resolve/main"
            return
        fi
    done
    return 1
}

# generate <file> <steps> <arguments…>: the same picture each time.
cat >"$work/generate" <<WRAPPER
#!/bin/sh
set -e
model=\$1 steps=\$2 name=\$3
shift 3
echo "generate \$name: \$*"
"$here/bin/darkroom" generate --model "\$model" --prompt "a red apple" --seed 7 --steps "\$steps" -o "$work/\$name.png" --json "\$@"
case \$name in cpu) exit ;; *f32) levels=2 ;; *) levels=6 ;; esac
"$card" compare "$work/cpu.png" "$work/\$name.png" "\$levels" --rows "$rows"
WRAPPER
chmod +x "$work/generate"

pictures() {
    local model=$1 steps=$2
    "$work/generate" "$model" "$steps" cpu --device cpu &&
        "$work/generate" "$model" "$steps" gpu-f32 --device gpu --dtype f32 --tune never &&
        "$work/generate" "$model" "$steps" gpu-f16 --device gpu --dtype f16 --tune never &&
        "$work/generate" "$model" "$steps" gpu-f16-matrices --device gpu --dtype f16 --matrices --tune never
}
export -f pictures
export work

bounded_faults() { "$work/card" faults memory; local memory=$?; "$work/card" faults loss && [ $memory -eq 0 ]; }
export -f bounded_faults

# PyTorch, in whatever Python has it, with the kit's diffusers in front.
peer() {
    if [ ! -f "$here/peer/peer.py" ]; then
        say "the kit has no script for PyTorch"
        return
    fi
    local python
    for python in "${DARKROOM_KIT_PYTHON:-}" python3 python /opt/*/.venv/bin/python3 /opt/*/bin/python3; do
        [ -n "$python" ] && command -v "$python" >/dev/null || continue
        # Finding it is quick; importing it is not.
        "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null || continue
        python=$(command -v "$python")
        if [ -f "$here/peer/peer-wheels.tar.xz" ]; then
            (mkdir -p "$work/site" && cd "$work/site" && "$python" -W ignore -m tarfile -e "$here/peer/peer-wheels.tar.xz" .) 2>&1 | keep
        fi
        printf '#!/bin/sh\nPYTHONPATH="%s/site${PYTHONPATH:+:$PYTHONPATH}" exec "%s" "$@"\n' "$work" "$python" >"$work/python"
        chmod +x "$work/python"
        export DARKROOM_KIT_PYTHON=$work/python DARKROOM_KIT_PEER=$here/peer/peer.py DARKROOM_KIT_CONFIGS=$here/peer/published
        say "PyTorch: $python"
        return
    done
    say "no python3 here has PyTorch, so nothing stands beside Darkroom's figures"
}

# CUDA's programs, and what they said as a row.
cuda() {
    if [ ! -x "$here/cuda/run.sh" ]; then
        say "== cuda: left out, the kit has no folder cuda/"
        return
    fi
    if [ ! -e /dev/nvidiactl ] && ! command -v nvidia-smi >/dev/null; then
        say "== cuda: left out, there is no NVIDIA card here"
        return
    fi
    local model=${1:-}
    item "cuda" 120 env "DARKROOM_HUB=${model%/darkroom/*}" "$here/cuda/run.sh" "$here/cuda" "$work"
    "$card" note cuda said "$(sed -n '/^== cuda (/,$p' "$text" | tail -n 300)" --rows "$rows"
}

if [ -x "$here/bin/burn-peer" ]; then export DARKROOM_KIT_BURN=$here/bin/burn-peer; fi

machine 2>&1 | keep
ADAPTER=
find_vulkan
say "adapter: ${ADAPTER:-none}"
"$card" note machine machine "$(machine 2>&1)" --rows "$rows"
item "facts" 40 "$work/card" facts
case $ADAPTER in
    "")
        say "no Vulkan adapter opens here: nothing but CUDA can run"
        failed=$((failed + 1))
        cuda "$(find_model)"
        ;;
    gpu*)
        threads=$(nproc)
        peer
        item "kernels: parity" 60 "$work/card" parity "$here/bin/gpu" -- "--test-threads=$threads"
        item "sd15 step" 90 "$work/card" steps sd15-unet f16,f32
        item "pipelines: parity" 50 "$work/card" parity "$here/bin/gpu_pipelines" -- "--test-threads=$threads"
        if model=$(find_model); then
            item "pictures: the embedded model on the GPU and the CPU" 40 bash -c "pictures '$model' 20"
        else
            say "== pictures: left out, the embedded model is neither in the kit (--with-model) nor in a checkout around it"
        fi
        item "sd15 step without matrices" 45 "$work/card" --plain steps sd15-unet f16
        item "sd15 step by types of weights" 40 "$work/card" weights sd15-unet f16
        item "sd15 step by types of weights, without matrices" 30 "$work/card" --plain weights sd15-unet f16
        item "f16 steps of xl, turbo and sd21" 90 "$work/card" steps xl-unet,turbo-unet,sd21-unet f16
        item "vaes" 45 "$work/card" steps sd15-vae,xl-vae f16
        item "load from /dev/shm" 25 "$work/card" load /dev/shm
        cuda "$model"
        item "faults: memory and device" 40 bash -c bounded_faults
        item "ops of sd15, f16" 60 "$work/card" ops sd15-unet f16
        item "texts" 30 "$work/card" steps sd15-text,sd21-text,xl-text2 f16
        item "f32 steps of xl, turbo, sd21 and a vae" 90 "$work/card" steps xl-unet,turbo-unet,sd21-unet,sd15-vae f32
        item "load from the folder's disk" 25 "$work/card" load "$folder"
        item "ops of xl, f16" 60 "$work/card" ops xl-unet f16
        ;;
    *)
        say "this is a software adapter: sizes are small, and times say nothing of a card"
        item "kernels: parity" 240 "$work/card" parity "$here/bin/gpu" -- --test-threads=2 smallest caps
        item "narrow step" 240 "$work/card" steps narrow-unet f16
        item "narrow step by types of weights" 240 "$work/card" weights narrow-unet f16
        item "pipelines: parity" 160 "$work/card" parity "$here/bin/gpu_pipelines" -- --test-threads=2 --exact half::v1_5
        if model=$(find_model); then
            item "pictures: the embedded model on the GPU and the CPU" 240 bash -c "pictures '$model' 2"
        else
            say "== pictures: left out, the embedded model is neither in the kit (--with-model) nor in a checkout around it"
        fi
        item "small vae" 120 "$work/card" steps small-vae f32
        item "load from the folder's disk" 80 "$work/card" load "$folder"
        cuda "${model:-}"
        item "faults: memory and device" 120 bash -c bounded_faults
        ;;
esac
# The table has room of its own, whatever the items said.
max_text=$((max_text + max_item))
"$card" summary "$rows" | keep
say "== done in $SECONDS s, $failed failed"
flush
[ $failed -eq 0 ]
