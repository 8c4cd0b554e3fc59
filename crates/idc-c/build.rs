//! Gives the shared library the name by which programs look for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libidc.so.0");
    }
}
