//! Shared libraries that a program needs (`DT_NEEDED`, followed to the end).

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use object::{
    Endianness,
    elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, PT_INTERP},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};

use crate::Error;

/// Where the dynamic linker looks, after the program's own search path.
const LIBRARY_DIRS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// What one ELF file says about the others that it needs.
#[derive(Debug, Default)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    search: Vec<PathBuf>,
}

/// Every shared library and program interpreter that `programs` need: path in the image to file on the host.
///
/// # Errors
/// When a file cannot be read or a library is nowhere.
pub fn libraries(programs: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut found = BTreeMap::new();
    let mut queue: VecDeque<PathBuf> = programs.iter().cloned().collect();
    while let Some(file) = queue.pop_front() {
        let needs = needs(&file)?;
        if let Some(interpreter) = needs.interpreter {
            found.entry(interpreter.clone()).or_insert_with(|| PathBuf::from(interpreter));
        }
        for name in needs.libraries {
            let mut dirs = needs.search.iter().cloned().chain(LIBRARY_DIRS.map(PathBuf::from));
            let path = dirs.find_map(|d| Some(d.join(&name)).filter(|p| p.is_file()));
            let path = path.ok_or_else(|| Error::Missing {
                what: format!("the shared library {name}, which {} needs", file.display()),
                advice: "reinstall the package that the program belongs to".to_owned(),
            })?;
            if found.insert(path.to_string_lossy().into_owned(), path.clone()).is_none() {
                queue.push_back(path);
            }
        }
    }
    Ok(found)
}

/// Path of a shared library by its name, where the dynamic linker looks.
pub fn library(name: &str) -> Option<PathBuf> {
    LIBRARY_DIRS.iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

fn needs(file: &Path) -> Result<Needs, Error> {
    let data = fs::read(file).map_err(Error::io("cannot read", file))?;
    parse(&data, file).map_err(|e| Error::BadFile { file: file.display().to_string(), why: e.to_string() })
}

fn parse(data: &[u8], file: &Path) -> Result<Needs, object::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    let segments = header.program_headers(endian, data)?;
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.data(endian, data).unwrap_or_default();
            let path = path.strip_suffix(b"\0").unwrap_or(path);
            needs.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, data)?;
    let Some((entries, strings)) = sections.dynamic(endian, data)? else {
        return Ok(needs);
    };
    let strings = sections.strings(endian, data, strings)?;
    for entry in entries {
        let text = || entry.string(endian, strings).map(|s| String::from_utf8_lossy(s).into_owned());
        match entry.tag(endian) {
            DT_NEEDED => needs.libraries.push(text()?),
            DT_RPATH | DT_RUNPATH => {
                let origin = file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
                needs
                    .search
                    .extend(text()?.split(':').map(|dir| PathBuf::from(dir.replace("$ORIGIN", &origin))));
            }
            _ => {}
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_resolved() {
        let found = libraries(&[std::env::current_exe().unwrap()]).unwrap();
        assert!(found.keys().any(|k| k.contains("libc.so")), "{found:?}");
        assert!(found.keys().any(|k| k.contains("ld-linux")), "{found:?}");
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(parse(b"#!/bin/sh\n", Path::new("/x")).is_err());
    }
}
