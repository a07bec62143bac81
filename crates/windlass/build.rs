//! How the binary is linked: relative relocations are packed (`DT_RELR`), which takes two megabytes off a static
//! position-independent binary of this size. A static binary relocates itself with the C library it was linked with, and
//! that has to know the packed form: glibc does since 2.36. Where the version cannot be read, nothing is packed. Functions
//! of the same machine code are linked once in what is released: a megabyte. That is an option of lld, which
//! the Rust of `rust-toolchain.toml` brings and links with on x86-64.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") != "linux" || target("ENV") != "gnu" || std::env::var("HOST") != std::env::var("TARGET") {
        return;
    }
    if glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if target("ARCH") == "x86_64" && std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}

/// This machine's glibc, as `getconf` tells it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
