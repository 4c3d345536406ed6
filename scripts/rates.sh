#!/usr/bin/env bash
# Benchmarks of the whole path: connections a second, cycles, instructions and cache lines for each, over devices and
# without, against Linux's TCP and testpmd's ceiling; and how they grow. Installs what it needs, builds, prints a table.
#   scripts/rates.sh [--quick] [--only NAME]... [--json FILE] [--svg FILE] [--dperf PROGRAM]
#   scripts/rates.sh --help         all options and cases
#   scripts/rates.sh --profiled ... the same with the build of scripts/profiled.sh
# As root it runs in namespaces of its own, reserves huge pages meanwhile, and leaves nothing behind.
#   TIDEGATE_TEST_DIR   where the build goes (default: build-test/ in the tree)
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
root=$PWD
build=${TIDEGATE_TEST_DIR:-$root/build-test}/release
profiled=
words=()
for word in "$@"; do
  if [[ $word == --profiled ]]; then
    profiled=yes
    build=${build%release}profiled
  else
    words+=("$word")
  fi
done
set -- ${words[@]+"${words[@]}"}
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 PYTHONDONTWRITEBYTECODE=1
# A wrong word is told before minutes of building, and --help needs none.
if command -v python3 >/dev/null; then
  status=0
  TIDEGATE_RATES_PARSE=1 python3 bench/rates/rates.py --build "$build" "$@" || status=$?
  [[ $status -eq 10 ]] || exit "$status"
fi
scripts/install-deps.sh build rates
if [[ -n $profiled ]]; then
  scripts/profiled.sh "$build"
else
  settings='-Dwerror=true -Dcpp_args=-g1'
  if [[ ! -f $build/build.ninja || $(cat "$build/.settings" 2>/dev/null) != "CXX=${CXX:-} $settings" ]]; then
    rm -rf "$build"
    read -ra flags <<<"$settings"
    meson setup "$build" "$root" "${flags[@]}" >/dev/null
    # As scripts/test.sh notes it, which builds the same.
    echo "CXX=${CXX:-} $settings" >"$build/.settings"
  fi
  ninja -C "$build" app/tidegate bench/path/whole_path bench/kernel/kernel_tcp | tail -n 1 >&2
fi
cd "$here"
run=(python3 "$root/bench/rates/rates.py" --build "$build" "$@")
if [[ $(id -u) -eq 0 ]] && unshare --mount --net --pid --fork --kill-child true 2>/dev/null; then
  export TIDEGATE_RATES_INSIDE=1
  # A /run of our own keeps named namespaces and DPDK's files to ourselves.
  exec unshare --mount --net --pid --fork --kill-child --mount-proc \
    bash -c 'mount -t tmpfs tmpfs /run; exec "$@"' - "${run[@]}"
fi
exec "${run[@]}"
