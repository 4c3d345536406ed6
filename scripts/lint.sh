#!/usr/bin/env bash
# Every check that needs no run of the program. Prints one line a check and names what failed.
#   scripts/lint.sh [--only CHECK] [--counts FILE]
# Checks: layout includes-self-test includes rules-self-test rules format length leftovers prefetch shell threads headers tidy-self-test tidy
# --counts writes "passed failed" to FILE, for scripts/test.sh.
#   TIDY_SECONDS   how long clang-tidy may take in all (default: 600)
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
export LC_ALL=C
jobs=$(nproc)
only=''
counts=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --only) only=${2:?--only needs the name of a check}; shift 2 ;;
    --counts) counts=${2:?--counts needs a file}; shift 2 ;;
    *) echo "lint: unknown argument '$1'; see the head of scripts/lint.sh" >&2; exit 2 ;;
  esac
done

# Files of ours: what git knows or would add, so that a fresh file is checked before it is committed.
files() { git -c safe.directory='*' ls-files --cached --others --exclude-standard -- "$@" |
  while IFS= read -r f; do if [[ -f $f ]]; then printf '%s\n' "$f"; fi; done; }

check_layout() {
  local allowed=' meson.build lib app bench test config scripts README.md LICENSE CHANGELOG.md ' entry bad=0
  while IFS= read -r entry; do
    if [[ $entry != .* && $allowed != *" $entry "* ]]; then
      echo "top level: '$entry' has no place there; the top level is:$allowed"
      bad=1
    fi
  done < <(files . | cut -d/ -f1 | sort -u)
  for entry in $allowed; do
    [[ -e $entry ]] || { echo "top level: '$entry' is missing"; bad=1; }
  done
  local module
  for module in lib/*/; do
    [[ -f ${module}README.md ]] || { echo "${module}README.md is missing: what the room is for"; bad=1; }
    [[ -f ${module}meson.build ]] || { echo "${module}meson.build is missing"; bad=1; }
  done
  return $bad
}

check_includes_self_test() { scripts/check-includes.py --self-test; }
check_includes() { scripts/check-includes.py; }
check_rules_self_test() { scripts/check-rules.py --self-test; }
check_rules() { scripts/check-rules.py; }
check_format() { files '*.cc' '*.hh' | xargs -r -n 20 -P "$jobs" clang-format --dry-run --Werror; }

check_length() {
  files '*.cc' '*.hh' '*.py' '*.sh' '*meson.build' | xargs -r wc -l |
    awk '$2 != "total" && $1 > 500 { print $2 ": " $1 " lines; 500 is the most a file may have"; bad = 1 } END { exit bad }'
}

# Words that mean "not finished". The pattern is split so that this file does not match itself.
check_leftovers() {
  local found
  found=$(files lib app bench test scripts config meson.build | grep -v '/corpus/' |
    xargs -r grep -nIE "\b(TO""DO|FIX""ME|XX""X)\b") || true
  [[ -z $found ]] || { echo "$found"; return 1; }
}

# GCC leaves out calls to functions that only prefetch, unless base/prefetch.hh makes it see an effect.
check_prefetch() {
  local found
  found=$(files lib app bench | grep -v '^lib/base/prefetch.hh$' |
    xargs -r grep -nE '__builtin_prefetch|_mm_prefetch|rte_prefetch') || true
  [[ -z $found ]] || { echo "$found"; echo 'use prefetch_line() of lib/base/prefetch.hh'; return 1; }
}

check_shell() {
  local bad=0 f
  while IFS= read -r f; do bash -n "$f" || bad=1; done < <(files '*.sh' .ci/run)
  files '*.sh' .ci/run | xargs -r shellcheck --severity=warning || bad=1
  return $bad
}

# What runs threads is run under ThreadSanitizer, which takes the tests of the suite 'threads'.
check_threads() {
  local bad=0 f
  while IFS= read -r f; do
    grep -q "'threads'" "$(dirname "$f")/meson.build" ||
      { echo "$f makes threads, but no test in $(dirname "$f")/meson.build is in the suite 'threads'"; bad=1; }
  done < <(files 'test/*.cc' 'test/*.hh' | xargs -r grep -lE '#include <(thread|future)>|pthread_create')
  return $bad
}

# Each header alone, under both our warnings and g++'s; the driver's headers need DPDK's flags.
compile_header() {
  local header=$1 flags=()
  if [[ $header == lib/dpdk/* ]]; then
    read -ra flags < <(pkg-config --cflags libdpdk | sed 's/-I/-isystem /g')
  fi
  printf '#include "%s"\n' "${header#lib/}" |
    g++ -std=c++20 -fsyntax-only -Wall -Wextra -Wshadow -Wconversion -Wno-missing-field-initializers -Werror \
      "${flags[@]}" -Ilib -x c++ - || { echo "$header does not compile alone"; return 1; }
}
export -f compile_header
check_headers() {
  local bad=0 f
  while IFS= read -r f; do
    grep -q '^#pragma once' "$f" || { echo "$f has no #pragma once"; bad=1; }
  done < <(files 'lib/*.hh')
  files 'lib/*.hh' | xargs -r -P "$jobs" -I{} bash -c 'compile_header {}' || bad=1
  return $bad
}

# A module at a time: its headers and then its sources in one translation unit, since most of what clang-tidy does is
# going through the standard library once more. <linux/tcp.h> and <netinet/tcp.h> exclude each other, so who needs the
# former is looked at alone. The driver is left out: its translation units pull in DPDK's headers, whose inline code is
# not ours to mend.
tidy_group() {
  local output
  output=$(clang-tidy --quiet --config-file="$PWD/.clang-tidy" --header-filter='/lib/[a-z]+/[a-z0-9_]+\.(hh|cc)$' \
    --checks=-bugprone-suspicious-include "$1" -- -x c++ -std=c++20 -Wno-pragma-once-outside-header \
    -I"$PWD/lib" 2>&1) && return 0
  grep -v 'warnings\? generated' <<<"$output"
  return 1
}
export -f tidy_group
# tidy_groups DIR FILE...: writes them into DIR and prints their names, the longest first.
tidy_groups() {
  local dir=$1 f group; shift
  for f in "$@"; do
    f=$(realpath "$f")
    group=$(basename "$(dirname "$f")")
    if grep -q '^#include <linux/tcp.h>' "$f"; then group+=-$(basename "$f"); fi
    printf '#include "%s"\n' "$f" >>"$dir/$group.cc"
  done
  wc -l "$dir"/*.cc | sort -rn | awk '$2 != "total" { print $2 }'
}
tidy_all() {
  local dir status=0
  dir=$(mktemp -d)
  tidy_groups "$dir" "$@" | timeout "${TIDY_SECONDS:-600}" xargs -r -P "$jobs" -I{} bash -c 'tidy_group {}' || status=1
  rm -rf "$dir"
  return $status
}
check_tidy() {
  local list
  mapfile -t list < <(files 'lib/*.hh' 'lib/*.cc' | grep -v '^lib/dpdk/' | sort -t. -k2,2r)
  tidy_all "${list[@]}"
}

# In a group each is still seen: what is wrong in a header, in a source, and a source that does not compile.
check_tidy_self_test() {
  local dir bad=0 said
  dir=$(mktemp -d)
  mkdir -p "$dir/lib/base"
  # wrong FILE TEXT CHECK: clang-tidy's CHECK must find fault with FILE when TEXT is in it.
  wrong() {
    printf '%s\n' "$2" >"$dir/lib/base/$1"
    said=$(tidy_all "$dir/lib/base/$1") && { echo "$1 passes: $2"; bad=1; }
    grep -q "$1:.*\[.*$3" <<<"$said" || { echo "$3 does not see: $2"; bad=1; }
  }
  wrong header.hh 'inline int WrongName() { return 1; }' readability-identifier-naming
  wrong source.cc 'namespace { int wrong(int WrongName) { return WrongName; } }' readability-identifier-naming
  wrong broken.cc 'int wrong(' clang-diagnostic-error
  rm -rf "$dir"
  return $bad
}

passed=0
failed_names=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for check in layout includes-self-test includes rules-self-test rules format length leftovers prefetch shell threads headers tidy-self-test tidy; do
  [[ -z $only || $only == "$check" ]] || continue
  start=$SECONDS
  if "check_${check//-/_}" >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "lint: $check ok ($((SECONDS - start)) s)"
  else
    failed_names+=("$check")
    sed -n '1,80p' "$log"
    echo "lint: $check FAILED ($((SECONDS - start)) s)"
  fi
done
[[ -z $counts ]] || echo "$passed ${#failed_names[@]}" >"$counts"
if [[ ${#failed_names[@]} -gt 0 ]]; then
  echo "lint: failed: ${failed_names[*]}"
  exit 1
fi
if [[ $passed -eq 0 ]]; then
  echo "lint: there is no check named '$only'"
  exit 2
fi
