#!/usr/bin/env bash
# Seeded worlds by the thousand, for a night or a lunch: transfers over bad links, hosts that die, hosts that forget.
#   scripts/worlds.sh             seeds 1 to 10,000
#   scripts/worlds.sh 500000      as many as that
# Each failure names the seed and how to repeat it alone. CI runs the first few hundred.
#   TIDEGATE_TEST_DIR   where the build goes (default: build-test/ in the tree)
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 0
fi
seeds=${1:-10000}
if [[ ! $seeds =~ ^[1-9][0-9]{0,8}$ || $# -gt 1 ]]; then
  echo 'worlds: give the number of seeds, 1 to 999999999' >&2
  exit 2
fi
build=${TIDEGATE_TEST_DIR:-$PWD/build-test}/worlds
scripts/install-deps.sh build
[[ -f $build/build.ninja ]] || meson setup "$build" -Doptimization=2 -Db_ndebug=false >/dev/null
ninja -C "$build" test/sim/sim_test | tail -n 1
status=0
for test in $("$build/test/sim/sim_test" --gtest_list_tests | awk '/^[^ ]/ {suite = $1} /^ / && /Harm|Dead|Forget/ {print suite $1}'); do
  echo "worlds: $test, $seeds seeds ..."
  start=$SECONDS
  if SEEDS=$seeds "$build/test/sim/sim_test" --gtest_brief=1 "--gtest_filter=$test"; then
    echo "worlds: $test ok, $((SECONDS - start)) s"
  else
    echo "worlds: $test FAILED"
    status=1
  fi
done
exit $status
