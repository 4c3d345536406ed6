#!/usr/bin/env bash
# Installs the library into a temporary place, compiles the example against that place through pkg-config alone (neither
# the source nor the build tree is on any path), and runs it.
#   run.sh BUILD_DIR EXAMPLE.cc
set -euo pipefail
build=$1
example=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

DESTDIR=$place meson install -C "$build" --no-rebuild --tags devel --quiet
pc=$(find "$place" -name tidegate.pc)
[[ -n $pc ]] || { echo "tidegate.pc was not installed below $place"; exit 1; }

# Only what pkg-config says, with our own package first and nothing of DPDK asked for.
export PKG_CONFIG_PATH=${pc%/*}
pkg-config --exists --print-errors tidegate
[[ $(pkg-config --libs --static tidegate) != *rte_* ]] || { echo 'the core drags DPDK in'; exit 1; }
read -ra flags < <(pkg-config --cflags --libs tidegate)
cp "$example" "$place/example.cc"
cd "$place"
"${CXX:-c++}" -std=c++20 -Wall -Wextra -Wno-missing-field-initializers -Werror example.cc -o example "${flags[@]}"
./example

# Every header that a program may include was installed and compiles from there.
headers=0
while IFS= read -r header; do
  printf '#include "%s"\n' "${header#*/include/tidegate/}"
  headers=$((headers + 1))
done < <(find "$place" -path '*/include/tidegate/*.hh' ! -path '*/dpdk/*' | sort) >all.cc
echo "example ran; the installed tree has $headers headers"
[[ $headers -gt 10 ]]
"${CXX:-c++}" -std=c++20 -fsyntax-only all.cc "${flags[@]}"
