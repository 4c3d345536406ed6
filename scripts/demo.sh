#!/usr/bin/env bash
# From a fresh clone to a running demonstration: installs what is missing, builds the program, runs `tidegate demo`.
# Needs no NIC and no hugepages, and no root when the packages are already there. Arguments go to `tidegate demo`.
#   TIDEGATE_BUILD_DIR   where to build (default: build/)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${TIDEGATE_BUILD_DIR:-$root/build}
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

"$root/scripts/install-deps.sh" build
if [[ ! -f $build/build.ninja ]]; then
  echo "demo: configuring $build"
  meson setup "$build" "$root" >/dev/null || { tail -n 25 "$build/meson-logs/meson-log.txt" >&2; exit 1; }
fi
echo "demo: building app/tidegate (minutes the first time, seconds after)"
if [[ -t 1 ]]; then
  ninja -C "$build" app/tidegate
else
  ninja --quiet -C "$build" app/tidegate
fi
exec "$build/app/tidegate" demo "$@"
