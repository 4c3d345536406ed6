#!/usr/bin/env bash
# A release build that is optimised as a whole with a profile of itself (GCC's -flto and -fprofile-use): builds it with
# counters, lets it serve connections of every kind for a minute, and builds it again with what was counted. Needs no
# NIC, no huge pages.
#   scripts/profiled.sh [BUILD]     BUILD: where (default: build-profiled/ in the tree)
# Afterwards `meson install -C BUILD` installs it as any other build. What it gains: bench/README.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in
  -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  -*)
    echo "profiled.sh: unknown option $1; --help tells what there is" >&2
    exit 2
    ;;
esac
if [[ $# -gt 1 ]]; then
  echo "profiled.sh: one word is what it takes, where to build; given: $*" >&2
  exit 2
fi
build=$(realpath -m "${1:-$root/build-profiled}")
# It is emptied before it is built in: only what this script has made, or what is empty.
if [[ -e $build && ! -d $build ]] || [[ -e $build && ! -f $build/profiled.log && -n $(find "$build" -maxdepth 0 ! -empty 2>&1) ]]; then
  echo "profiled.sh: $build is not a build of this script, and not empty; name another folder or empty it" >&2
  exit 2
fi
log=$build/profiled.log
# Objects with counters and with profiles are made once each: nothing for a cache.
export CCACHE_DISABLE=1
"$root/scripts/install-deps.sh" build
programs=(app/tidegate bench/path/whole_path bench/kernel/kernel_tcp)
said() { echo "profiled: $*" >&2; }
quietly() { "$@" >>"$log" 2>&1 || { tail -n 25 "$log" >&2; said "failed: $*; the whole of it is in $log"; exit 1; }; }

# What was compiled from is what the profile belongs to.
stamp=$(cd "$root" && { find lib app bench meson.build -type f -print0 | sort -z | xargs -0 sha256sum; "${CXX:-c++}" --version; echo "${CXXFLAGS:-} ${LDFLAGS:-}"; } | sha256sum)
if [[ -f $build/.profiled && $(<"$build/.profiled") == "$stamp" ]]; then
  said "$build is up to date"
  exit 0
fi
rm -rf "$build"
mkdir -p "$build"
: >"$log"
said "1 of 3: building with counters, in $build"
# Workers count the same lines at once.
quietly meson setup "$build" "$root" -Db_pgo=generate "-Dcpp_args=-g1 -fprofile-update=prefer-atomic"
quietly ninja -C "$build" "${programs[@]}"
said "2 of 3: serving connections"
train() { quietly timeout 120 "$build/$1" "${@:2}"; }
for concurrent in 64 4096; do
  train bench/path/whole_path connections --rounds $((256000 / concurrent)) --concurrent $concurrent --time-wait 50000 --checksums
done
train bench/path/whole_path connections --rounds 2000 --concurrent 64
train app/tidegate demo --seconds 8 --concurrency 1k
train app/tidegate demo --seconds 3 --concurrency 1k --ipv6
train app/tidegate demo --seconds 3 --service discard
train app/tidegate demo --seconds 3 --service echo --payload 64k --concurrency 64
said "3 of 3: building with the profile"
# Code that was not reached is compiled as without a profile, not for size.
quietly meson configure "$build" -Db_pgo=use -Db_lto=true "-Dcpp_args=-g1 -fprofile-partial-training -Wno-missing-profile"
quietly ninja -C "$build" "${programs[@]}"
echo "$stamp" >"$build/.profiled"
said "done: $build/app/tidegate"
