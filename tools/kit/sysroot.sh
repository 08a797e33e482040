#!/usr/bin/env bash
# sysroot.sh: prints a folder with a `cc` that links for glibc 2.31, so that programs run on any x86-64 Linux of 2020 or
# later. It is the machine's own compiler with the headers and libraries of Debian 11, which apt downloads once into the
# cache. Beside it lie libraries that a machine with a GPU may lack: lib/ has the Vulkan loader, lib-2.34/ a later
# one for a later glibc, x11/ what a driver's libGLX asks for. Prints nothing and fails where there is no apt or Debian's archive cannot be reached.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/darkroom
place=$cache/sysroot-2.31
packages="libc6 libc6-dev libgcc-s1 linux-libc-dev"
loader="libvulkan1"
x11="libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0"

stamp=$(cksum <"${BASH_SOURCE[0]}")
if [ "$(cat "$place/ready" 2>/dev/null)" = "$stamp" ]; then
    echo "$place/bin"
    exit
fi
for tool in apt-get dpkg-deb cc; do
    command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
[ "$(uname -m)" = x86_64 ] || { echo "this is not x86-64" >&2; exit 1; }

mkdir -p "$cache"
new=$(mktemp -d "$cache/sysroot.XXXXXX")
trap 'rm -rf "$new"' EXIT
mkdir -p "$new"/{lists/partial,archives/partial,debs,sysroot,bin,lib,lib-2.34,x11}
printf 'deb http://deb.debian.org/debian %s main\n' bullseye bookworm >"$new/sources.list"
# Lists and packages of its own: the machine's apt stays as it is, and nobody has to be root.
apt=(apt-get -q -o "Dir::Etc::SourceList=$new/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$new/lists" -o "Dir::Cache=$new/cache" -o "Dir::Cache::Archives=$new/archives"
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User=
    -o Acquire::Check-Valid-Until=false -o Dir::State::Status=/dev/null)
mkdir -p "$new/cache"
"${apt[@]}" update >&2
from() {
    local name suite=$1
    shift
    mkdir -p "$new/debs/$suite"
    for name in "$@"; do set -- "$@" "$name/$suite"; shift; done
    (cd "$new/debs/$suite" && "${apt[@]}" download "$@" >&2)
}
# shellcheck disable=SC2086
from bullseye $packages $loader $x11
from bookworm $loader

unpack() {
    local name from=$new/debs/$1 to=$2
    shift 2
    for name in "$@"; do dpkg-deb -x "$from/${name}"_*.deb "$to"; done
}
# shellcheck disable=SC2086
unpack bullseye "$new/sysroot" $packages
unpack bullseye "$new/loader" $loader
unpack bookworm "$new/later" $loader
# shellcheck disable=SC2086
unpack bullseye "$new/x" $x11
find "$new/loader" -name 'libvulkan.so.1' -exec cp -L {} "$new/lib/" \;
find "$new/later" -name 'libvulkan.so.1' -exec cp -L {} "$new/lib-2.34/" \;
find "$new/x" -name '*.so.*' -type l -exec cp -L {} "$new/x11/" \;
# Links from the root of a file system mean the sysroot's here.
find "$new/sysroot" -type l -lname '/*' | while read -r link; do
    ln -sfn --relative "$new/sysroot$(readlink "$link")" "$link"
done

# Named cc, because cargo's fingerprints have a linker's name in them: with this folder first on PATH whatever is compiled
# stays good. rustc goes by the name, too: one that looks like ld would be called as ld.
cat >"$new/bin/cc" <<WRAPPER
#!/bin/sh
s=$place/sysroot
exec $(command -v cc) --sysroot=\$s -B\$s/usr/lib/x86_64-linux-gnu -L\$s/usr/lib/x86_64-linux-gnu -L\$s/lib/x86_64-linux-gnu "\$@"
WRAPPER
chmod +x "$new/bin/cc"
rm -rf "$new"/{lists,archives,debs,cache,loader,later,x,sources.list}
echo "$stamp" >"$new/ready"
chmod 755 "$new"
rm -rf "$place"
mv "$new" "$place"
trap - EXIT
echo "$place/bin"
