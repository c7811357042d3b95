#!/usr/bin/env bash
# Makes a fresh Debian machine with a Rust toolchain ready to build Leveret: system packages, crates, RocksDB. Where nothing is
# missing it takes a second, so every make target starts with it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin

readonly CARGO_CONFIG=.cargo/config.toml
readonly CARGO_CONFIG_MARK='# Written by scripts/setup.sh; delete this line to keep your own version of this file.'

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

check_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  command -v cargo >/dev/null && command -v rustc >/dev/null ||
    die "Rust is missing: install Rust $wanted or newer with rustup (https://rustup.rs), then run this again"
  found=$(rustc --version | cut -d ' ' -f 2)
  [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
    die "Rust $found is too old: run 'rustup update stable' to get $wanted or newer"
}

# The crate's bindings are made while it is built, by libclang and clang's own headers.
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return
  local lib headers
  for lib in /usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-gnu /usr/local/lib; do
    compgen -G "$lib/libclang.so*" >/dev/null || compgen -G "$lib/libclang-[0-9]*.so*" >/dev/null || continue
    for headers in "$lib"/clang/*/include /usr/lib/clang/*/include /usr/lib/llvm-*/lib/clang/*/include; do
      if [ -f "$headers/stddef.h" ]; then return; fi
    done
  done
  return 1
}

missing_packages() {
  command -v "${CXX:-g++}" >/dev/null && command -v cc >/dev/null || echo g++
  command -v make >/dev/null || echo make
  have_libclang || echo libclang-dev
}

# Runs a command as root, without asking for a password where nobody can type one.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    return 1
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo --non-interactive "$@"
  fi
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing: ${packages[*]} (Debian's names); install them with your package manager"
  say "installing ${packages[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
  as_root "${apt[@]}" update >&2 </dev/null &&
    as_root "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" >&2 </dev/null ||
    die "could not install ${packages[*]}: run 'apt-get install ${packages[*]}' as root, then run this again"
}

# Tells cargo where RocksDB lies, in a file that git ignores, so that a plain `cargo build` links it too.
write_cargo_config() {
  local text
  if [ -f "$CARGO_CONFIG" ] && ! grep -qxF "$CARGO_CONFIG_MARK" "$CARGO_CONFIG"; then
    say "$CARGO_CONFIG is your own, left as it is; to link the RocksDB built here, set in its [env]: ROCKSDB_LIB_DIR = \"$1\", ROCKSDB_STATIC = \"1\""
    return
  fi
  text=$(printf '%s\n[env]\nROCKSDB_LIB_DIR = "%s"\nROCKSDB_STATIC = "1"' "$CARGO_CONFIG_MARK" "$1")
  if [ "$text" = "$(cat "$CARGO_CONFIG" 2>/dev/null)" ]; then return; fi
  mkdir -p "$(dirname "$CARGO_CONFIG")"
  printf '%s\n' "$text" >"$CARGO_CONFIG"
}

build_rocksdb() {
  local folder
  if folder=$(scripts/rocksdb.sh); then
    write_cargo_config "$folder"
    return
  fi
  say "RocksDB could not be built ahead; cargo will compile it as part of the build, which takes a quarter of an hour or more"
  if grep -qsxF "$CARGO_CONFIG_MARK" "$CARGO_CONFIG"; then rm "$CARGO_CONFIG"; fi
}

check_rust
install_packages
cargo fetch --locked
build_rocksdb
