#!/usr/bin/env bash
# Every test, from a fresh clone: installs what is missing, builds, runs, and ends with one line of totals.
#   scripts/test.sh                 all stages but lint
#   scripts/test.sh --quick         the unit and simulation tests alone
#   scripts/test.sh --lint          all stages, scripts/lint.sh first (what CI runs)
#   scripts/test.sh --only STAGE    one stage; may be repeated
# Stages: lint unit asan tsan fuzz bench package e2e
# e2e makes network namespaces and so needs root. Builds are kept for the next run.
#   TIDEGATE_TEST_DIR   where builds and logs go (default: build-test/ in the tree)
#   FUZZ_SECONDS        how long each fuzz target searches beyond its corpus (default: 15)
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
where=${TIDEGATE_TEST_DIR:-$root/build-test}
fuzz_seconds=${FUZZ_SECONDS:-15}
jobs=$(nproc)
# Objects of one build tree serve every other tree with the same flags.
# What the compiler itself read is what ccache goes by, so that a first build need not preprocess everything twice.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

all_stages=(unit asan tsan fuzz bench package e2e)
stages=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) stages=(unit); shift ;;
    --lint) stages=(lint "${all_stages[@]}"); shift ;;
    --only)
      if [[ " lint ${all_stages[*]} " != *" ${2:-} "* ]]; then
        echo "test: --only takes one of: lint ${all_stages[*]}" >&2
        exit 2
      fi
      stages+=("$2"); shift 2 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test: unknown argument '$1'; scripts/test.sh --help lists them" >&2; exit 2 ;;
  esac
done
[[ ${#stages[@]} -gt 0 ]] || stages=("${all_stages[@]}")

total_passed=0
total_failed=0
failed_stages=()
stage_passed=0
stage_failed=0
mkdir -p "$where"
log=$where/stage.log

# configure DIR SETTING...: sets a build tree up once; a tree with other settings is set up anew.
configure() {
  local dir=$1 stamp; shift
  stamp="CXX=${CXX:-} $*"
  if [[ ! -f $dir/build.ninja || $(cat "$dir/.settings" 2>/dev/null) != "$stamp" ]]; then
    rm -rf "$dir"
    meson setup "$dir" "$root" "$@" >>"$log" 2>&1 || return 1
    echo "$stamp" >"$dir/.settings"
  fi
}

# build DIR TARGET...
build() { local dir=$1; shift; ninja -C "$dir" "$@" >>"$log" 2>&1; }

# meson_tests DIR ARGUMENT...: runs tests (meson builds what they need) and adds what really ran to the stage's counts.
meson_tests() {
  local dir=$1 numbers; shift
  rm -f "$dir"/meson-logs/testlog*.json "$dir"/meson-logs/testlog*.junit.xml
  meson test -C "$dir" --print-errorlogs --num-processes "$jobs" "$@" >>"$log" 2>&1
  local status=$?
  numbers=$(scripts/count-tests.py "$dir/meson-logs/testlog" 2>>"$log") || numbers='0 1'
  stage_passed=$((stage_passed + ${numbers% *}))
  stage_failed=$((stage_failed + ${numbers#* }))
  return $status
}

# one NAME COMMAND...: a test that is not meson's; counts as one.
one() {
  local name=$1; shift
  echo "--- $name: $*" >>"$log"
  if "$@" >>"$log" 2>&1; then
    stage_passed=$((stage_passed + 1))
  else
    stage_failed=$((stage_failed + 1))
    echo "--- $name: failed" >>"$log"
    return 1
  fi
}

# targets DIR PATH_PREFIX: the programs of a build tree whose path begins so, one a line.
targets() {
  meson introspect --targets "$1" | python3 -c '
import json, os, sys
for target in json.load(sys.stdin):
    path = os.path.relpath(target["filename"][0], sys.argv[1])
    if target["type"] == "executable" and path.startswith(sys.argv[2]):
        print(path)' "$(realpath "$1")" "$2"
}

run_lint() {
  local counts=$where/lint-counts numbers status=0
  rm -f "$counts"
  scripts/lint.sh --counts "$counts" 2>&1 | tee -a "$log" | grep --line-buffered '^lint: '
  numbers=$(cat "$counts" 2>/dev/null) || numbers='0 1'
  rm -f "$counts"
  stage_passed=${numbers% *}
  stage_failed=${numbers#* }
  one 'count-tests' scripts/count-tests.py --self-test || status=1
  return $status
}

# Optimised, with every assertion on and warnings as errors.
run_unit() {
  configure "$where/unit" -Doptimization=2 -Db_ndebug=false -Dwerror=true &&
    meson_tests "$where/unit" --no-suite e2e --no-suite package
}

# Sanitizer builds are not optimised, but for the modules every packet passes through (lib/meson.build): they run in
# seconds either way, and compile three times as fast. With clang, which instruments in half the time that g++ needs.
run_asan() {
  CXX=clang++ configure "$where/asan" -Doptimization=0 -Db_ndebug=false -Db_lundef=false -Dcpp_args=-g1 \
    -Db_sanitize=address,undefined &&
    meson_tests "$where/asan" --no-suite e2e --no-suite package --timeout-multiplier 4
}

run_tsan() {
  configure "$where/tsan" -Doptimization=1 -Db_ndebug=false -Dcpp_args=-g1 -Db_sanitize=thread &&
    meson_tests "$where/tsan" --suite threads --timeout-multiplier 5
}

# One target: its corpus first, then a short search from there. Finds go beside the build, where they can be looked at.
fuzz_target() {
  local program=$1 module name corpus finds
  module=$(basename "$(dirname "$program")")
  name=$(basename "$program")
  corpus=$root/test/$module/corpus/${name#fuzz_}
  [[ -d $corpus ]] || corpus=$root/test/$module/corpus/$name
  finds=$(dirname "$program")/finds-$name
  mkdir -p "$finds/new"
  if [[ -z $(ls -A "$corpus" 2>/dev/null) ]]; then
    echo "$name: no corpus in test/$module/corpus/"
    return 1
  fi
  "$program" -runs=0 -timeout=5 "-artifact_prefix=$finds/" "$corpus" &&
    "$program" "-max_total_time=$fuzz_seconds" -timeout=5 -rss_limit_mb=4096 -print_final_stats=1 \
      "-artifact_prefix=$finds/" "$finds/new" "$corpus"
}

run_fuzz() {
  local dir=$where/fuzz programs=() program status=0 waiting=()
  CXX=clang++ configure "$dir" -Doptimization=1 -Db_ndebug=false -Db_lundef=false \
    -Db_sanitize=address,undefined '-Dcpp_args=-g1 -fsanitize=fuzzer-no-link' || return 1
  mapfile -t programs < <(targets "$dir" test/ | grep '/fuzz_')
  [[ ${#programs[@]} -gt 0 ]] || { echo 'there is no fuzz target' >>"$log"; return 1; }
  build "$dir" "${programs[@]}" || return 1
  # As many at a time as there are cores; each writes a log of its own.
  for program in "${programs[@]}"; do
    while [[ $(jobs -rp | wc -l) -ge $jobs ]]; do sleep 0.2; done
    (timeout $((fuzz_seconds + 120)) bash -c "$(declare -f fuzz_target); root=$root fuzz_seconds=$fuzz_seconds
      fuzz_target $dir/$program" >"$dir/$program.log" 2>&1; echo $? >"$dir/$program.status") &
    waiting+=($!)
  done
  wait "${waiting[@]}"
  for program in "${programs[@]}"; do
    if ! one "$program" test "$(cat "$dir/$program.status")" = 0; then
      tail -n 40 "$dir/$program.log" >>"$log"
      status=1
    fi
  done
  return $status
}

# With line numbers, by which callgrind can tell the parts of the fast path; they change no instruction.
configure_release() { configure "$where/release" -Dwerror=true -Dcpp_args=-g1; }

# Each benchmark program runs its benchmarks shortly: it must build, run and measure something. Those over a million or
# more of something (the last part of their name says how many) are for measuring, not for this.
bench_smoke() {
  local report=$1.json
  rm -f "$report"
  timeout 120 "$1" --benchmark_min_time=0.01 '--benchmark_filter=-/[0-9]{7,}' "--benchmark_out=$report" || return 1
  python3 -c '
import json, sys
runs = json.load(open(sys.argv[1]))["benchmarks"]
wrong = [run["name"] for run in runs if run.get("error_occurred")]
print(len(runs), "benchmarks,", len(wrong), "with an error", *wrong)
sys.exit(1 if wrong or not runs else 0)' "$report"
}

run_bench() {
  local dir=$where/release programs=() program status=0
  configure_release || return 1
  mapfile -t programs < <(targets "$dir" bench/ | grep '_bench$')
  [[ ${#programs[@]} -gt 0 ]] || { echo 'there is no benchmark' >>"$log"; return 1; }
  build "$dir" "${programs[@]}" || return 1
  for program in "${programs[@]}"; do one "$program" bench_smoke "$dir/$program" || status=1; done
  one 'rates.sh --quick' timeout 600 scripts/rates.sh --quick --json "$where/rates.json" || status=1
  one 'instructions of the fast path' bench/rates/guard.py "$where/rates.json" || status=1
  return $status
}

# A machine without DPDK: every other package is seen, and the core must configure and build.
build_without_dpdk() {
  local visible=$where/pkgconfig-without-dpdk directory
  rm -rf "$visible" "$where/core"
  mkdir -p "$visible"
  for directory in $(pkg-config --variable pc_path pkg-config | tr : ' '); do
    find "$directory" -name '*.pc' ! -name 'libdpdk*' -exec ln -sf -t "$visible" {} + 2>/dev/null
  done
  # With the settings of the release build, whose objects these are once more.
  PKG_CONFIG_LIBDIR=$visible meson setup "$where/core" "$root" -Dwerror=true -Dcpp_args=-g1 || return 1
  if grep -q 'librte_' "$where/core/build.ninja"; then
    echo 'DPDK was found although it was hidden'
    return 1
  fi
  ninja -C "$where/core" lib/libtidegate.a
}

run_package() {
  configure_release || return 1
  meson_tests "$where/release" --suite package
  one 'the core builds without DPDK' build_without_dpdk
}

run_e2e() {
  if [[ $(id -u) -ne 0 ]]; then
    echo 'e2e makes network namespaces and so must be run as root' >>"$log"
    return 1
  fi
  configure_release && meson_tests "$where/release" --suite e2e
}

# The packages each stage needs.
groups=(build)
[[ ${stages[*]} == unit ]] || groups+=(test)
scripts/install-deps.sh "${groups[@]}" || { echo 'test: installing the packages failed'; echo '0 passed, 1 failed'; exit 1; }

for stage in "${stages[@]}"; do
  stage_passed=0
  stage_failed=0
  start=$SECONDS
  : >"$log"
  echo "test: $stage ..."
  "run_$stage"
  status=$?
  took=$((SECONDS - start))
  if [[ $status -ne 0 && $stage_failed -eq 0 ]]; then
    stage_failed=1
  elif [[ $((stage_passed + stage_failed)) -eq 0 ]]; then
    echo 'this stage ran no test' >>"$log"
    stage_failed=1
  fi
  total_passed=$((total_passed + stage_passed))
  total_failed=$((total_failed + stage_failed))
  if [[ $stage_failed -gt 0 ]]; then
    failed_stages+=("$stage")
    cp "$log" "$where/$stage-failed.log"
    tail -n 120 "$log"
    echo "test: $stage FAILED, $stage_passed ok, $stage_failed not, $took s (whole log: $where/$stage-failed.log)"
  else
    echo "test: $stage ok, $stage_passed tests, $took s"
  fi
done
rm -f "$log"
if [[ ${#failed_stages[@]} -gt 0 ]]; then echo "test: failed stages: ${failed_stages[*]}"; fi
echo "$total_passed passed, $total_failed failed"
[[ $total_failed -eq 0 ]]
