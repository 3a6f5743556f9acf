#!/bin/sh
# Build the wheel, look into it, install it into a fresh environment and run it outside the source tree.
# Works without a network: the wheel's dependencies are borrowed from the environment of PYTHON.
# Usage: sh tests/wheel.sh PYTHON
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# A copy, so that neither an old build/ folder gets into the wheel nor a new one into the source tree.
mkdir "$work/source"
for name in pyproject.toml README.md LICENSE src; do
    if [ -e "$root/$name" ]; then cp -R "$root/$name" "$work/source/"; fi
done
rm -rf "$work/source/src/"*.egg-info
"$python" -m build --wheel --no-isolation --outdir "$work/dist" "$work/source" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log" >&2; exit 1; }

"$python" - "$work"/dist/*.whl "$root/src/polyvec" <<'CHECK'
import sys
from pathlib import Path
from zipfile import ZipFile

wheel, package = sys.argv[1], Path(sys.argv[2])
names = set(ZipFile(wheel).namelist())
wanted = {
    f"polyvec/{file.relative_to(package).as_posix()}"
    for file in package.rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}
missing = sorted(wanted - names)
foreign = sorted(name for name in names if not name.startswith(("polyvec/", "polyvec-")))
if not any(name.endswith("licenses/LICENSE") for name in names):
    missing.append("LICENSE")
if missing or foreign:
    sys.exit(f"{wheel}: missing {missing}, foreign {foreign}")
CHECK

"$python" -m venv --without-pip "$work/venv"
"$python" -m pip --python "$work/venv/bin/python" install --quiet --no-deps --no-index \
    --disable-pip-version-check "$work"/dist/*.whl
# A path in a .pth file is searched after the environment's own packages, and .pth files in it (such as
# the one of an editable polyvec) are not read.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"

mkdir "$work/elsewhere"
cd "$work/elsewhere"
from=$("$work/venv/bin/python" -c 'import polyvec; print(polyvec.__file__)')
case $from in
"$work"/venv/*) ;;
*) echo "polyvec was imported from $from, not from the wheel" >&2; exit 1 ;;
esac
"$work/venv/bin/polyvec" --help >"$work/help.txt"
grep -q prepare "$work/help.txt"
"$work/venv/bin/polyvec" verify --help >/dev/null
"$work/venv/bin/polyvec" --version
