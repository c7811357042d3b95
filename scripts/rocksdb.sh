#!/usr/bin/env bash
# Builds RocksDB once as a static library and prints the folder it lies in, for ROCKSDB_LIB_DIR.
#
# The rocksdb crate compiles its 343 source files one by one, again for every profile and target folder: about half an hour of CPU
# each time. Here the same sources, which cargo has already downloaded, are compiled as a few large units of some twenty files
# each, which takes a quarter of that, once per machine. The library is kept in a cache folder outside the target folder.
#
# Usage: scripts/rocksdb.sh          Progress goes to stderr, the folder to stdout. Exit code 1: build the crate as it comes.
# Environment: LEVERET_CACHE_DIR     where built libraries are kept (default: ~/.cache/leveret)
#              CXX                   the C++ compiler (default: g++)
set -euo pipefail
cd "$(dirname "$0")/.."

# Raise this whenever the flags below change, so that a library built with the old ones is not taken for a new one.
readonly RECIPE=1
readonly FILES_PER_UNIT=22
# A unit needs up to this much memory while it is compiled; fewer run at once where memory is short.
readonly UNIT_MEMORY_KIB=$((1500 * 1024))
# The features of the crate whose effect on the library is reproduced here. Any other one must be added to the flags first.
readonly KNOWN_FEATURES=" bindgen-runtime bindgen-static lz4 lz4-sys static "

say() { printf 'rocksdb: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The folder of a crate's sources, as cargo has them for this workspace.
crate_dir() {
  local manifest
  manifest=$(grep -o "\"manifest_path\":\"[^\"]*/$1-[^\"]*/Cargo.toml\"" <<<"$metadata" | head -n 1 | cut -d '"' -f 4)
  [ -n "$manifest" ] || die "cargo does not list the crate $1"
  dirname "$manifest"
}

check_features() {
  local feature
  for feature in $(cargo tree --locked --package librocksdb-sys --depth 0 --edges no-build --format '{f}' | tr ',' ' '); do
    case "$KNOWN_FEATURES" in
      *" $feature "*) ;;
      *) die "the crate feature '$feature' is not known to this script" ;;
    esac
  done
}

# Sets cpu_flags and cpu_name: the instructions that make RocksDB's checksums fast, where this processor has them.
detect_cpu() {
  cpu_flags=() cpu_name=generic
  local has
  has=" $(grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | cut -d : -f 2) "
  case "$(uname -m)" in
    x86_64)
      if [[ $has == *" sse4_2 "* ]]; then cpu_flags+=(-msse4.2) cpu_name=sse4.2; fi
      if [[ $has == *" pclmulqdq "* ]]; then cpu_flags+=(-mpclmul) cpu_name+=-pclmul; fi ;;
    aarch64)
      if [[ $has == *" crc32 "* && $has == *" pmull "* && $has == *" aes "* ]]; then
        cpu_flags+=(-march=armv8-a+crc+aes+crypto) cpu_name=crc-aes
      fi ;;
  esac
}

# Compiles one unit (a list of source files). Two files of one unit may define the same name; then the unit is halved until it compiles.
compile_unit() {
  local list=$1 count
  sed 's|.*|#include "&"|' "$list" >"$list.cc"
  if "$cxx" "${flags[@]}" -c "$list.cc" -o "$list.o" 2>"$list.log"; then return; fi
  rm -f "$list.o"
  count=$(wc -l <"$list")
  if [ "$count" -le 1 ]; then
    say "$(cat "$list") does not compile:"
    head -n 20 "$list.log" >&2
    return 1
  fi
  say "unit $(basename "$list") is halved: $(grep -m 1 error "$list.log" || head -n 1 "$list.log")"
  head -n $((count / 2)) "$list" >"$list-a"
  tail -n +$((count / 2 + 1)) "$list" >"$list-b"
  compile_unit "$list-a" && compile_unit "$list-b"
}

# How many units may be compiled at once: one per processor, fewer where memory is short.
parallel_units() {
  local by_memory
  by_memory=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) / UNIT_MEMORY_KIB))
  local jobs=$(($(nproc) < by_memory ? $(nproc) : by_memory))
  echo $((jobs > 0 ? jobs : 1))
}

clean_up() {
  local group
  for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done
  rm -rf "$work"
}

compile_all() {
  local jobs running=0 list
  jobs=$(parallel_units)
  for list in "$work"/unit-??; do
    if [ "$running" -ge "$jobs" ]; then
      wait -n || return 1
      running=$((running - 1))
    fi
    compile_unit "$list" &
    running=$((running + 1))
  done
  while [ "$running" -gt 0 ]; do
    wait -n || return 1
    running=$((running - 1))
  done
}

cxx=${CXX:-g++}
command -v "$cxx" >/dev/null || die "no C++ compiler ($cxx)"
metadata=$(cargo metadata --locked --format-version 1)
source_dir=$(crate_dir librocksdb-sys)
lz4_dir=$(crate_dir lz4-sys)
check_features
detect_cpu

version=${source_dir##*/librocksdb-sys-}
compiler=$(basename "$cxx")-$("$cxx" -dumpfullversion -dumpversion)
cache=${LEVERET_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/leveret}
output=$cache/rocksdb-${version%%+*}-$compiler-$cpu_name-r$RECIPE
if [ -f "$output/librocksdb.a" ]; then
  echo "$output"
  exit
fi

# What the crate's build.rs passes for 64-bit Linux with the feature lz4, plus what `cc` adds, plus the processor's flags.
flags=(
  -std=c++20 -O2 -fPIC -ffunction-sections -fdata-sections -w "${cpu_flags[@]}" -include cstdint
  -I "$source_dir" -I "$source_dir/rocksdb" -I "$source_dir/rocksdb/include"
  -I "$source_dir/rocksdb/third-party/gtest-1.8.1/fused-src" -I "$lz4_dir/liblz4/lib"
  -DNDEBUG=1 -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
)

mkdir -p "$cache"
work=$(mktemp -d "$cache/building.XXXXXX")
# Job control gives every unit a process group of its own, by which its compiler can be ended when this script is interrupted.
set -m
trap clean_up EXIT

# util/build_version.cc is made by RocksDB's own build; the crate brings a finished one.
{
  sed -e 's/[[:space:]]*$//' -e '/^$/d' -e '/^util\/build_version\.cc$/d' -e "s|^|$source_dir/rocksdb/|" \
    "$source_dir/rocksdb_lib_sources.txt"
  echo "$source_dir/build_version.cc"
} >"$work/sources"
split --lines "$FILES_PER_UNIT" --suffix-length 2 "$work/sources" "$work/unit-"

say "compiling version $version with $compiler ($cpu_name) in $(ls "$work"/unit-?? | wc -l) units, $(parallel_units) at a time"
SECONDS=0
compile_all || die "compilation failed"
mkdir "$work/lib"
ar rcs "$work/lib/librocksdb.a" "$work"/unit-*.o
# Another build of the same library may have finished meanwhile; then that one is used.
mv --no-target-directory "$work/lib" "$output" 2>/dev/null || [ -f "$output/librocksdb.a" ] || die "cannot write $output"
say "done in ${SECONDS} s: $(du -h "$output/librocksdb.a" | cut -f 1) in $output"
echo "$output"
