# The Python packages that travel with the benchmark kit. Sourced by build.sh, or run: `bash tools/kit/wheels.sh FOLDER`.

# kit_wheels <folder>: downloads what peer-requirements.txt names and leaves it in the folder as one `peer-wheels.tar.xz`.
# The pipelines are four fifths of diffusers and neither UNet2DConditionModel nor AutoencoderKL imports them; all other
# code stays as it was released. On the machine, without pip or xz:
#     python3 -m tarfile -e peer-wheels.tar.xz site && PYTHONPATH=$PWD/site python3 peer.py --configs published
kit_wheels() {
    local folder=$1 requirements wheels
    requirements=$(dirname "${BASH_SOURCE[0]}")/peer-requirements.txt
    wheels=$(mktemp -d)
    mkdir -p "$folder"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$requirements" --dest "$wheels" &&
        python3 - "$wheels" "$folder/peer-wheels.tar.xz" <<'PYTHON' || { rm -rf "$wheels"; return 1; }
import io, pathlib, sys, tarfile, zipfile

LEFT_OUT = tuple(f"diffusers/{name}/" for name in ("pipelines", "modular_pipelines", "guiders", "commands", "experimental"))

with tarfile.open(sys.argv[2], "w:xz", preset=9) as tar:
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
        wheel = zipfile.ZipFile(path)
        for name in sorted(wheel.namelist()):
            # A RECORD would list files that are not there.
            if name.startswith(LEFT_OUT) or name.endswith(("/", ".dist-info/RECORD")):
                continue
            content = wheel.read(name)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
PYTHON
    rm -rf "$wheels"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    kit_wheels "$1"
fi
