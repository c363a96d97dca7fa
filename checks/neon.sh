#!/usr/bin/env bash
# The kernels and the compiled plans on AArch64 (under qemu-aarch64), with dot products of bytes (FEAT_DotProd) and without:
# every tier of the CPU must give the bits of the definition.
#
#   checks/neon.sh
#
# Takes cargo from this machine, and compiler, standard library and emulator from Debian. Exit status 77: this machine has
# none of them, and gets none.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
linker=aarch64-linux-gnu-gcc
cpus=(max cortex-a72)
# Random cases of each property, and drawn graphs; emulation is slow.
cases=60
graphs=500

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Debian's compiler, as rustup's has no library for AArch64 until it is asked for one.
compiler() {
  dpkg -L rustc-web 2>/dev/null | grep '/bin/rustc$'
}

emulator() {
  command -v qemu-aarch64-static || command -v qemu-aarch64
}

# Whether a program is compiled, linked and run.
has_aarch64() {
  local program
  compiler >/dev/null && emulator >/dev/null && command -v "$linker" >/dev/null || return 1
  program=$(mktemp)
  echo 'fn main() {}' | "$(compiler)" --target "$target" -C "linker=$linker" -o "$program" - 2>/dev/null &&
    "$(emulator)" "$program"
  local status=$?
  rm -f "$program"
  return $status
}

get_aarch64() {
  has_aarch64 && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] || return 1
  local packages=(rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
  { dpkg --add-architecture arm64 && apt-get update -qq &&
    apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 || return 1
  has_aarch64
}

# on CPU ARGUMENTS...: cargo test for AArch64 on that CPU; without the examples of documents, which need its own rustdoc.
on() {
  local cpu=$1
  shift
  echo "$cpu: cargo test $*"
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(emulator) -cpu $cpu" \
    cargo test --release -q --target "$target" "$@"
}

get_aarch64 || { echo "no compiler or no emulator for AArch64: $(tail -1 "$log")" >&2; exit 77; }
RUSTC=$(compiler)
export RUSTC
# Another compiler's files: apart, so that neither throws the other's away.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/aarch64
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker
export PROPTEST_CASES=$cases
export LOWBIT_DRAWN_GRAPHS=$graphs
for cpu in "${cpus[@]}"; do
  on "$cpu" -p lowbit-kernels --tests
  on "$cpu" -p lowbit-runtime --test equality
done
