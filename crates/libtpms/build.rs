//! Says which libtpms is linked.
//!
//! - As a Linux process: the machine's shared library, from the package libtpms-dev.
//! - As a domain (or whenever `CASEMATE_TPM_LIBRARIES` names a folder): `libtpms.a` and `libcrypto.a` of that folder.

use std::env;
use std::path::{Path, PathBuf};

const FOLDER: &str = "CASEMATE_TPM_LIBRARIES";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={FOLDER}");
    let folder = env::var_os(FOLDER).map(PathBuf::from);
    match (folder, env::var_os("CARGO_CFG_CASEMATE")) {
        (Some(folder), _) => {
            for library in ["libtpms.a", "libcrypto.a"] {
                let library = folder.join(library);
                assert!(library.is_file(), "{FOLDER}: there is no {}", library.display());
                println!("cargo:rerun-if-changed={}", library.display());
            }
            println!("cargo:rustc-link-search=native={}", folder.display());
            // Not bundled: the linker gets the files themselves, and a change of them is seen.
            println!("cargo:rustc-link-lib=static:-bundle=tpms");
            println!("cargo:rustc-link-lib=static:-bundle=crypto");
        }
        (None, Some(_)) => {
            println!("cargo:warning=the vTPM's libraries are missing; `casemate build vtpm` provides them");
        }
        (None, None) => {
            let header = Path::new("/usr/include/libtpms/tpm_library.h");
            if !header.is_file() {
                println!(
                    "cargo:warning=libtpms is missing; `casemate setup` installs it (package libtpms-dev)"
                );
            }
            println!("cargo:rustc-link-lib=tpms");
        }
    }
}
