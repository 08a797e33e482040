# `build.sh setup`: finds or installs what the other verbs need. Sourced by build.sh, which sets `root` and `cache`.
#
# Packages come from apt, and only where this is root; elsewhere the commands are printed. Tools that cargo can build are
# built once per version into the cache folder. Whatever is built is built beside its place and moved there when it is
# whole, so that an interrupted run leaves nothing that the next one takes for finished.

# shellcheck source=tools/setup/wasm_std.sh
source "$root/tools/setup/wasm_std.sh"
# shellcheck source=tools/setup/wasm_threads.sh
source "$root/tools/setup/wasm_threads.sh"
# shellcheck source=tools/setup/cuda.sh
source "$root/tools/setup/cuda.sh"

# What to say where something is missing and may not be installed here.
need() {
    echo "$1" >&2
    return 1
}

verb_setup() {
    case ${1:-all} in
        all) verb_setup_for all ;;
        peers) stage "peers" install_peers ;;
        *) echo "setup knows peers, or nothing behind it, not $1" >&2; exit 2 ;;
    esac
}

# verb_setup_for <native|build|threads|check|browser|cuda|all>: the stages that a verb needs. What is found costs no time worth a line,
# so other verbs than `setup` print only what they had to install.
verb_setup_for() {
    local what=$1 always=
    if [ "$what" = all ]; then always=yes; what="native build threads check browser all"; fi
    run_setup() {
        if [ -n "$always" ] || ! "have_$2"; then stage "$1" "install_$2"; fi
    }
    case " $what " in *" check "*) what="$what build" ;; *" browser "*) what="$what build native" ;; esac
    run_setup "rust" rust
    case " $what " in *" check "* | *" all "*) run_setup "rustfmt and clippy" lints ;; esac
    local packages
    packages=$(missing_packages "$what")
    if [ -n "$always" ] || [ -n "$packages" ]; then stage "system packages" install_packages "$packages"; fi
    case " $what " in
        *" build "*)
            run_setup "wasm32 target" wasm_target
            run_setup "wasm-bindgen" wasm_bindgen
            ;;
    esac
    case " $what " in *" threads "*) setup_wasm_threads "$always" ;; esac
    case " $what " in *" check "*) run_setup "typescript" typescript ;; esac
    case " $what " in
        *" browser "*)
            run_setup "axe" axe
            run_setup "geckodriver" geckodriver
            run_setup "wasm-pack" wasm_pack
            ;;
    esac
    case " $what " in *" cuda "*) run_setup "cuda compiler" cuda ;; esac
    link_tools
    if [ "$always" ]; then say_where_tools_are; fi
}

# setup_wasm_threads [yes]: in a shell of its own, since wasm_env changes what compiles. A reason why there can be none is asked
# for again only by `setup`.
setup_wasm_threads() (
    wasm_env
    if have_wasm_threads; then
        [ -z "${1:-}" ] || stage "wasm threads std" true
    elif [ -n "${1:-}" ] || [ -z "$(wasm_threads_obstacle)" ]; then
        stage "wasm threads std" install_wasm_threads
    fi
    have_wasm_threads || echo "the page is built without threads: $(wasm_threads_obstacle)"
)

# One folder for PATH, whatever versions lie beside it: `build.sh env` prints the line for a shell.
link_tools() {
    local tool
    mkdir -p "$cache/bin"
    for tool in "$(wasm_bindgen_bin)"/wasm-bindgen{,-test-runner} "$cache/geckodriver-$geckodriver_version/bin/geckodriver" \
        "$(wasm_pack_bin)/wasm-pack"; do
        if [ -x "$tool" ]; then ln -sf "$tool" "$cache/bin/"; fi
    done
}

# For those who call wasm-pack themselves. wasm-pack downloads what it does not find on PATH.
say_where_tools_are() {
    local tool
    for tool in wasm-pack wasm-bindgen geckodriver; do
        command -v $tool >/dev/null || { echo "wasm-pack, wasm-bindgen and geckodriver are in $cache/bin; for this shell:
  eval \"\$(./build.sh env)\""; return; }
    done
}

# Rust itself.

have_rust() { command -v cargo >/dev/null && command -v rustc >/dev/null; }
install_rust() {
    have_rust || need "Rust is missing. Install it with
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
and open a new shell."
    rustc --version
}

have_lints() { cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; }
install_lints() {
    have_lints && return
    command -v rustup >/dev/null && rustup component add rustfmt clippy
    have_lints || need "rustfmt or clippy is missing. Install them with
  rustup component add rustfmt clippy
or from the packages that your Rust came from."
}

# within <seconds> <command …>: ends the command when it takes longer, where the system can (macOS has no `timeout`).
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }

# System packages, as Debian calls them; a package is asked for only where what it brings is not there.

have_vulkan() {
    # macOS has Metal instead.
    [ "$(uname)" = Darwin ] && return
    # A driver announces itself with a file here. A real GPU's is as good as the software one.
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null
}

have_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v $name >/dev/null; then return 0; fi
    done
    [ -d "/Applications/Google Chrome.app" ] || [ -d /Applications/Chromium.app ]
}

# WebGPU came to Firefox on Linux with version 150 or a little before; what Debian's lists had a year ago is too old.
have_firefox() {
    local version
    version=$( (firefox-esr --version || firefox --version) 2>/dev/null | grep -oE '[0-9]+' | head -n 1)
    [ "${version:-0}" -ge 150 ]
}

# Some crates bring C code, and rustc links with the C compiler.
have_cc() { command -v cc >/dev/null; }

# missing_packages <what>: names of the packages to install, on one line.
missing_packages() {
    local missing=""
    have_cc || missing="$missing gcc libc6-dev"
    case " $1 " in *" native "*) have_vulkan || missing="$missing mesa-vulkan-drivers" ;; esac
    case " $1 " in
        *" browser "*)
            have_chromium || missing="$missing chromium"
            command -v chromedriver >/dev/null || missing="$missing chromium-driver"
            have_firefox || missing="$missing firefox-esr"
            ;;
    esac
    # The page's files are compressed better where it is; nobody has to install it.
    case " $1 " in *" build "*) [ "$(id -u)" -ne 0 ] || command -v brotli >/dev/null || missing="$missing brotli" ;; esac
    # TypeScript and axe come through npm. Debian's nodejs does not bring that; others' does.
    case " $1 " in *" check "* | *" browser "*) command -v npm >/dev/null || missing="$missing nodejs npm" ;; esac
    echo $missing
}

install_packages() {
    local packages=$1
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        need "$(printf 'These are missing and cannot be installed from here: %s\n%s' "$packages" "$(package_advice "$packages")")"
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # An installation that was interrupted makes apt refuse everything until this has run.
    dpkg --configure -a
    # An old list has an old Firefox, and would install it without a word.
    case " $packages " in *" firefox-esr "*) apt-get update ;; esac
    # Lists that are missing or out of date are the ordinary reason for a failure, and fetching them takes a while.
    # shellcheck disable=SC2086
    apt-get install -y --no-install-recommends $packages || {
        apt-get update
        apt-get install -y --no-install-recommends $packages
    }
}

# The commands for the package managers that are common; the names differ.
package_advice() {
    local packages=$1
    if command -v apt-get >/dev/null; then
        echo "  sudo apt-get update && sudo apt-get install $packages"
    elif command -v dnf >/dev/null; then
        echo "  sudo dnf install $(echo "$packages" | sed 's/libc6-dev/glibc-devel/; s/chromium-driver/chromedriver/; s/firefox-esr/firefox/')"
    elif command -v pacman >/dev/null; then
        echo "  sudo pacman -S $(echo "$packages" | sed 's/ *libc6-dev//; s/ *chromium-driver//; s/firefox-esr/firefox/; s/mesa-vulkan-drivers/vulkan-swrast/')"
    elif command -v brew >/dev/null; then
        echo "  xcode-select --install; brew install node; brew install --cask chromium chromedriver"
    else
        echo "Install them with this system's package manager; the names above are Debian's."
    fi
}

# wasm-bindgen, at exactly the version of the library in Cargo.lock: any other refuses to work.

locked_version() { awk -v name="\"$1\"" '$1 == "name" && $3 == name { getline; gsub(/"/, "", $3); print $3 }' "$root/Cargo.lock"; }

wasm_bindgen_bin() { echo "$cache/wasm-bindgen-$(locked_version wasm-bindgen)/bin"; }

have_wasm_bindgen() {
    [ -x "$(wasm_bindgen_bin)/wasm-bindgen-test-runner" ] ||
        { command -v wasm-bindgen-test-runner >/dev/null &&
            [ "$(wasm-bindgen --version 2>/dev/null)" = "wasm-bindgen $(locked_version wasm-bindgen)" ]; }
}

install_wasm_bindgen() {
    have_wasm_bindgen && return
    mkdir -p "$cache"
    local temporary
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # The name is wanted now: it is a local one, gone when the trap runs.
    trap "rm -rf '$temporary'" EXIT
    # From the temporary folder, so that this crate's own cargo settings stay out of it. Not --locked: the tool's lock names
    # a release that the registry no longer has.
    # Little optimisation, because compiling the tool takes longer than all that it will ever do here.
    (cd "$temporary" && CARGO_TARGET_DIR=$temporary/target CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install wasm-bindgen-cli --version "=$(locked_version wasm-bindgen)" --root "$temporary/out" \
        --bin wasm-bindgen --bin wasm-bindgen-test-runner)
    rm -rf "$cache/wasm-bindgen-$(locked_version wasm-bindgen)"
    mv "$temporary/out" "$cache/wasm-bindgen-$(locked_version wasm-bindgen)"
}

# npm_package <name> <version>: installs a package into the cache, in a folder of its own by its name and version.
npm_package() {
    local folder=$cache/$1-$2 temporary
    mkdir -p "$cache"
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # As above.
    trap "rm -rf '$temporary'" EXIT
    # A package of its own, so that npm looks for none in the folders above.
    (cd "$temporary" && echo '{}' >package.json && npm install --no-audit --no-fund --ignore-scripts "$1@$2")
    rm -rf "$folder"
    chmod 755 "$temporary"
    mv "$temporary" "$folder"
}

# TypeScript, which looks at the types of the page's JavaScript.

typescript_version=7.0.2

tsc_bin() { echo "$cache/typescript-$typescript_version/node_modules/.bin/tsc"; }

have_typescript() { [ -x "$(tsc_bin)" ]; }

install_typescript() { have_typescript || npm_package typescript "$typescript_version"; }

# axe, which looks at the page as those who rely on assistive technology meet it. For the page's tests alone.

axe_version=4.14.1

have_axe() { [ -f "$cache/axe-core-$axe_version/node_modules/axe-core/axe.min.js" ]; }

install_axe() { have_axe || npm_package axe-core "$axe_version"; }

# geckodriver, through which Firefox is driven; Debian has no package of it.

geckodriver_version=0.37.1

geckodriver_bin() {
    if [ -x "$cache/geckodriver-$geckodriver_version/bin/geckodriver" ]; then
        echo "$cache/geckodriver-$geckodriver_version/bin/geckodriver"
    else
        command -v geckodriver
    fi
}

have_geckodriver() { geckodriver_bin >/dev/null; }

install_geckodriver() {
    have_geckodriver && return
    mkdir -p "$cache"
    local temporary
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # As above.
    trap "rm -rf '$temporary'" EXIT
    (cd "$temporary" && CARGO_TARGET_DIR=$temporary/target CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install geckodriver --version "=$geckodriver_version" --locked --root "$temporary/out")
    rm -rf "$cache/geckodriver-$geckodriver_version"
    mv "$temporary/out" "$cache/geckodriver-$geckodriver_version"
}

# wasm-pack. Any version that somebody installed will do; ours is pinned.

wasm_pack_version=0.15.1

wasm_pack_bin() { echo "$cache/wasm-pack-$wasm_pack_version/bin"; }

have_wasm_pack() { [ -x "$(wasm_pack_bin)/wasm-pack" ] || command -v wasm-pack >/dev/null; }

install_wasm_pack() {
    have_wasm_pack && return
    mkdir -p "$cache"
    local temporary
    temporary=$(mktemp -d "$cache/building.XXXXXX")
    # shellcheck disable=SC2064 # As above.
    trap "rm -rf '$temporary'" EXIT
    (cd "$temporary" && CARGO_TARGET_DIR=$temporary/target CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install wasm-pack --version "=$wasm_pack_version" --locked --root "$temporary/out")
    rm -rf "$cache/wasm-pack-$wasm_pack_version"
    mv "$temporary/out" "$cache/wasm-pack-$wasm_pack_version"
}

# What benches compare with. Never installed unasked: it is large, and nothing else needs it.

peers=$cache/peers

# The versions are those of the two lists.
peers_stamp() { cat "$root/tools/bench/requirements.txt" "$root/tools/bench/package.json" "$root/tools/bench/models.py" | cksum | tr -d ' '; }

have_peers() { [ -f "$peers/ready" ] && [ "$(cat "$peers/ready")" = "$(peers_stamp)" ]; }

install_peers() {
    have_peers && return
    local tool
    for tool in python3 npm c++; do
        command -v $tool >/dev/null || need "$tool is missing: python3 with venv, npm and a C++ compiler are needed"
    done
    mkdir -p "$peers"
    rm -f "$peers/ready"
    [ -x "$peers/venv/bin/python" ] || python3 -m venv "$peers/venv"
    "$peers/venv/bin/pip" install -q -r "$root/tools/bench/requirements.txt"
    cp "$root/tools/bench/package.json" "$peers/package.json"
    (cd "$peers" && npm install --no-audit --no-fund --ignore-scripts)
    "$peers/venv/bin/python" "$root/tools/bench/models.py" "$peers/cases"
    peers_stamp >"$peers/ready"
}
