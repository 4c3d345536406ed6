#!/usr/bin/env bash
# Installs what is missing, from a bare Debian 12. Says nothing and does nothing when all is there.
#   scripts/install-deps.sh [build] [test] [rates]     groups; `build` alone when none is named
set -euo pipefail

build_packages=(g++ meson ninja-build pkg-config ccache python3 libdpdk-dev libboost-dev libtomlplusplus-dev
  libcli11-dev libfmt-dev nlohmann-json3-dev libgtest-dev libgmock-dev libbenchmark-dev)
test_packages=(clang clang-format clang-tidy libclang-rt-14-dev llvm shellcheck valgrind nginx-light apache2-utils wrk
  curl nftables iproute2 ethtool tcpdump socat procps git dpdk-dev gnuplot-nox)
rates_packages=(dpdk-dev valgrind iproute2 procps gnuplot-nox)

wanted=()
for group in "${@:-build}"; do
  case $group in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}") ;;
    rates) wanted+=("${rates_packages[@]}") ;;
    *) echo "install-deps: unknown group '$group'; the groups are: build test rates" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [[ $state == 'install ok installed' ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install-deps: these packages are missing; ask an administrator to install them, then run this again:" >&2
    echo "  apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "install-deps: installing ${missing[*]}"

# A package must not start its service here (nginx would take port 80): invoke-rc.d asks this file, which is put back as
# it was when we are done.
policy=/usr/sbin/policy-rc.d
saved=''
restore_policy() {
  if [[ -n $saved ]]; then "${as_root[@]}" mv -f "$saved" "$policy"; else "${as_root[@]}" rm -f "$policy"; fi
}
if [[ -e $policy ]]; then
  saved=$policy.before-tidegate
  "${as_root[@]}" cp -p "$policy" "$saved"
fi
trap restore_policy EXIT
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"

log=$(mktemp)
if ! { "${as_root[@]}" apt-get update &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
  >"$log" 2>&1; then
  tail -n 25 "$log" >&2
  echo "install-deps: apt-get failed; its whole output is in $log" >&2
  exit 1
fi
rm -f "$log"
