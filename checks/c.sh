#!/usr/bin/env bash
# The C that `lowbit export --to c` writes, on this machine and on Cortex-M (under qemu-system-arm): compiled without a
# warning, each self-test must give every score to the bit. Then what the networks take of flash and memory.
#
#   checks/c.sh LOWBIT [MODEL.onnx...]
#
# LOWBIT is the binary. Quantized MODELs take the place of the built-in one with weights of 8, 4, 2 and 1 bits. Exit
# status 77: this machine has no gcc for Cortex-M or no qemu, and gets none; what it has was checked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lowbit=$(realpath "$1")
shift
models=()
for model in "$@"; do
  models+=("$(realpath "$model")")
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

strict=(-std=c99 -O2 -Wall -Wextra -Werror -pedantic)
# As a project without standards and with every licence to fuse a product and a sum.
loose=(-std=gnu99 -O3 -ffp-contract=fast -Wall -Wextra -Werror)
targets=(
  "mps2-an385 -mcpu=cortex-m3"
  "mps2-an386 -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16"
  "mps2-an500 -mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16"
)

has_cortex_m() {
  command -v arm-none-eabi-gcc >/dev/null && command -v qemu-system-arm >/dev/null &&
    echo '#include <string.h>' | arm-none-eabi-gcc -mthumb -mcpu=cortex-m4 -fsyntax-only -x c - 2>/dev/null
}

get_cortex_m() {
  has_cortex_m && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  local packages=(gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm)
  { apt-get install -y -qq --no-install-recommends "${packages[@]}" ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; }; } >apt.log 2>&1
  has_cortex_m
}

quantize() {
  local pair
  for pair in int8-mse:w8 kmeans-16:w4 int2-mse:w2 twn:ternary bwn:binary; do
    "$lowbit" quantize --no-eval --calib-images 64 --weights "${pair%:*}" -q -o "${pair#*:}.onnx"
    models+=("$scratch/${pair#*:}.onnx")
  done
}

# compile COMPILER NAME FLAGS...: a program that runs the self-test.
compile() {
  local compiler=$1 name=$2
  shift 2
  "$compiler" "-D${name^^}_SELFTEST" "-DNAME_H=\"$name.h\"" "-DSELFTEST=${name}_selftest" -I. \
    "$name.c" "$here/c/selftest.c" "$@"
}

on_this_machine() {
  compile gcc "$1" "${strict[@]}" -fsanitize=address,undefined -fno-sanitize-recover -o host
  ./host >/dev/null
  compile gcc "$1" "${loose[@]}" -march=native -o host
  ./host >/dev/null
  if command -v g++ >/dev/null; then
    echo "#include \"$1.h\"" | g++ -I. -Wall -Wextra -Werror -fsyntax-only -x c++ -
  fi
}

on_cortex_m() {
  local name=$1 target flags
  for target in "${targets[@]}"; do
    read -r -a flags <<<"$target"
    for set in strict loose; do
      local -n given=$set
      # No libc: what the source calls beyond the compiler's own arithmetic is in cortex_m.c.
      compile arm-none-eabi-gcc "$name" "${given[@]}" -mthumb "${flags[@]:1}" -nostdlib \
        -T "$here/c/cortex_m.ld" "$here/c/cortex_m.c" -lgcc -o arm.elf
      timeout 300 qemu-system-arm -machine "${flags[0]}" -nographic -monitor none \
        -semihosting-config enable=on,target=native -kernel arm.elf </dev/null >/dev/null 2>arm.log ||
        { echo "$name, $set, $target: failed: $(cat arm.log)" >&2; return 1; }
    done
  done
}

# Text and constants, and static memory with the caller's codes, of the network alone on a Cortex-M4.
sizes() {
  local name=$1 size input
  arm-none-eabi-gcc -std=c99 -O2 -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -c "$name.c" -o size.o
  size=$(arm-none-eabi-size size.o | tail -1)
  input=$(sed -n "s/#define ${name^^}_INPUT_LEN //p" "$name.h")
  echo "$name $size" | awk -v input="$input" '{ printf "%-20s flash %6d B, memory %6d B + %d B of input codes\n", $1, $2 + $3, $3 + $4, input }'
}

command -v gcc >/dev/null || { echo "no gcc" >&2; exit 77; }
status=0
get_cortex_m || status=77
[ ${#models[@]} -gt 0 ] || quantize
for model in "${models[@]}"; do
  name=$(basename "$model" .onnx | tr -c '[:alnum:]\n' _)
  "$lowbit" export "$model" --to c -o "$name" >/dev/null
  on_this_machine "$name"
  if [ $status = 0 ]; then
    on_cortex_m "$name"
    sizes "$name"
  else
    echo "$name: on this machine only"
  fi
done
exit $status
