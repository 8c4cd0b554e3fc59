//! The C library of IDC: for domains in the sysroot, for Linux programs below `native`.
//!
//! The library for domains is one object in which all symbols but `idc_*` are local, as in the kernel's. Its
//! undefined symbols are the kernel's entry points and the C library's.

use crate::error::{At, Result};
use crate::install::Sdk;
use crate::run::Step;
use std::fs;
use std::path::{Path, PathBuf};

/// What a program calls the library by; for [`kernel::object_of`](crate::kernel::object_of).
pub const EXPORTS: &str = "idc_*";

/// What native programs with the static library need besides.
const PRIVATE: &str = "Libs.private: -lgcc_s -lc\n";

/// The library, as the installation takes it.
#[derive(Clone, Debug)]
pub struct IdcFiles {
    /// `idc.h`.
    pub header: PathBuf,
    /// The object for domains.
    pub object: PathBuf,
    /// The static library for this machine.
    pub native: PathBuf,
    /// The shared library for this machine.
    pub shared: PathBuf,
}

/// Installs the library. Files that have not changed are left alone.
pub fn install(sdk: &Sdk, files: &IdcFiles, work: &Path) -> Result<()> {
    fs::create_dir_all(work).at(work)?;
    let archive = work.join("libidc.a");
    let _ = fs::remove_file(&archive);
    Step::new("make libidc.a", "ar", &work.join("ar.log"))
        .arg("rcsD")
        .arg(&archive)
        .arg(&files.object)
        .run()?;
    let (domain, native) = (sdk.sysroot(), sdk.native());
    copy(&archive, &domain.join("lib/libidc.a"))?;
    copy(&files.native, &native.join("lib/libidc.a"))?;
    copy(&files.shared, &native.join("lib/libidc.so.0"))?;
    let link = native.join("lib/libidc.so");
    if fs::read_link(&link).is_err() {
        std::os::unix::fs::symlink("libidc.so.0", &link).at(&link)?;
    }
    for (root, more) in [(&domain, ""), (&native, PRIVATE)] {
        copy(&files.header, &root.join("include/idc.h"))?;
        let text = format!(
            "prefix=${{pcfiledir}}/../..\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\nName: idc\n\
             Description: Messages between Xen domains\nVersion: {}\nCflags: -I${{includedir}}\n\
             Libs: -L${{libdir}} -lidc\n{more}",
            env!("CARGO_PKG_VERSION")
        );
        put(&root.join("lib/pkgconfig/idc.pc"), text.as_bytes())?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    put(to, &fs::read(from).at(from)?)
}

/// Writes a file at once, unless it has this content.
fn put(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).at(dir)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    fs::write(&new, content).at(&new)?;
    fs::rename(&new, path).at(path)
}
