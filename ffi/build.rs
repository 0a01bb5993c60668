//! How the shared library is linked: its name for the dynamic linker, and that it stays once it is loaded.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target != "linux" && target != "android" && target != "freebsd" {
        return;
    }
    // A log's threads run this code, and so do handlers registered with the C library; `dlclose` must not unmap it.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // cargo-c names the library itself, by the same rule: until 1.0 each minor version has an ABI of its own.
    if env::var_os("CARGO_FEATURE_CAPI").is_none() {
        let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).unwrap_or_default();
        let abi = if part("MAJOR") == "0" { format!("0.{}", part("MINOR")) } else { part("MAJOR") };
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwal.so.{abi}");
    }
}
