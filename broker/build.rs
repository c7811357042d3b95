//! How the program is linked where that decides how much memory it takes: see "What an idle broker takes" in docs/perf.md.
//! Nothing here changes what it does, and where something is missing it is linked as cargo would.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Functions that a broker runs, by their symbols; `scripts/link-order.sh` makes the list.
const ORDER: &str = "link/order.txt";
const CXX_LIBRARY: &str = "libstdc++.a";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ORDER}");
    for variable in ["CXX", "RUSTC_LINKER", "CARGO_ENCODED_RUSTFLAGS"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if variable("PROFILE") == "release" && variable("TARGET") == TARGET {
        link_cxx_library_statically();
        put_used_functions_together();
    }
}

/// Of the C++ library RocksDB needs a part, while all of its relocations are done at each start. The linker takes a static library
/// where it finds no shared one before it.
fn link_cxx_library_statically() {
    let compiler = env::var("CXX").unwrap_or_else(|_| "g++".into());
    let found = Command::new(compiler)
        .arg(format!("-print-file-name={CXX_LIBRARY}"))
        .output();
    let Some(library) = found.ok().and_then(|found| String::from_utf8(found.stdout).ok()) else {
        return;
    };
    // A compiler that has none prints the name alone.
    let library = Path::new(library.trim());
    let folder = PathBuf::from(variable("OUT_DIR")).join("cxx");
    let link = folder.join(CXX_LIBRARY);
    let _ = std::fs::remove_file(&link);
    if library.is_absolute()
        && std::fs::create_dir_all(&folder).is_ok()
        && std::os::unix::fs::symlink(library, &link).is_ok()
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
}

/// The system maps the pages of a program in windows of 64 KiB. Where the functions that are used lie among those that are not, nearly
/// all of the program is mapped for a quarter of it. A symbol that the linker does not find it passes over.
fn put_used_functions_together() {
    if is_linked_by_lld() {
        let order = Path::new(&variable("CARGO_MANIFEST_DIR")).join(ORDER);
        println!(
            "cargo:rustc-link-arg-bin=leveret=-Wl,--symbol-ordering-file={}",
            order.display()
        );
        println!("cargo:rustc-link-arg-bin=leveret=-Wl,--no-warn-symbol-ordering");
    }
}

/// A toolchain that brings its own lld links with it, unless it is told otherwise; other linkers do not know the option.
fn is_linked_by_lld() -> bool {
    let told = variable("CARGO_ENCODED_RUSTFLAGS");
    let told_otherwise = ["linker", "fuse-ld", "link-self-contained"]
        .iter()
        .any(|word| told.contains(word));
    let Ok(printed) = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    let lld = PathBuf::from(sysroot)
        .join("lib/rustlib")
        .join(TARGET)
        .join("bin/gcc-ld/ld.lld");
    !told_otherwise && env::var_os("RUSTC_LINKER").is_none() && lld.exists()
}

/// A variable that cargo sets.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Where this was tried, and where lld links by default.
const TARGET: &str = "x86_64-unknown-linux-gnu";
