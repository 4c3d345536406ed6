#!/usr/bin/env bash
# Records the goodput of one transfer against loss, in virtual time, and draws it: test/sim/throughput.tsv and .svg.
#   scripts/throughput.sh
# The numbers depend on the sender alone, not on the machine; a test compares them with the record.
#   TIDEGATE_TEST_DIR   where the build goes (default: build-test/ in the tree)
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -gt 0 ]]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0"
  [[ $1 == --help || $1 == -h ]] && exit 0
  exit 2
fi
build=${TIDEGATE_TEST_DIR:-$PWD/build-test}/worlds
scripts/install-deps.sh build
command -v gnuplot >/dev/null || apt-get install -y -q gnuplot-nox >/dev/null
[[ -f $build/build.ninja ]] || meson setup "$build" -Doptimization=2 -Db_ndebug=false >/dev/null
ninja -C "$build" test/sim/sim_test | tail -n 1
record=test/sim/throughput
THROUGHPUT_RECORD=$PWD/$record.tsv "$build/test/sim/sim_test" --gtest_brief=1 --gtest_filter=Throughput.AgainstLossIsAsRecorded
gnuplot <<PLOT
set terminal svg size 720,420 background rgb 'white' font 'sans,13'
set output '$record.svg'
set title 'One transfer over 100 Mbit/s and 20 ms: goodput against loss'
set xlabel 'packets lost, percent (0 stands at the left edge)'
set ylabel 'MB/s'
set logscale xy
set xrange [0.04:30]
set xtics ('0' 0.05, 0.1, 0.3, 1, 2, 3, 5, 10, 20)
set grid
set key bottom left
plot for [s in 'cubic newreno cubic-without-sack cubic-reordered'] \
  sprintf("< grep -P '^%s\\t' $record.tsv", s) using (\$2 == 0 ? 0.05 : \$2):(\$3 / 1000) with linespoints lw 2 pt 7 ps 0.5 title s
PLOT
echo "throughput: $record.tsv and $record.svg"
