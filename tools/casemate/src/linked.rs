//! How much of the source is in an image: what somebody has to read who wants to trust it.
//!
//! The image's line table says from which lines its code came, also where it was inlined. A line of source counts when
//! it is in a function that gave code to the image, or outside of all functions in a file with such a function or with
//! assembly. Blank lines, comments and tests do not count, nor do files that only declare (types, numbers).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use addr2line::Loader;
use anyhow::{Context, anyhow};
use object::{Object, ObjectSection, SectionKind};
use proc_macro2::{TokenStream, TokenTree};
use syn::{spanned::Spanned, visit::Visit};

/// Lines of source in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// Lines of code.
    pub code: usize,
    /// Of those, lines with the word `unsafe`.
    pub with_unsafe: usize,
    /// Files with such a line.
    pub unsafe_files: usize,
}

/// A file that gave code to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path below the workspace.
    pub file: String,
    /// Lines of code.
    pub code: usize,
    /// Of those, lines with the word `unsafe`.
    pub with_unsafe: usize,
}

/// Counts the lines of this workspace's crates that are in an image with symbols (`NAME.debug`).
///
/// # Errors
/// When the image or the source cannot be read.
pub fn count(root: &Path, image: &Path) -> anyhow::Result<Linked> {
    Ok(total(&sources(root, image)?))
}

/// The sum of these files.
pub fn total(sources: &[Source]) -> Linked {
    sources.iter().fold(Linked::default(), |sum, source| Linked {
        code: sum.code + source.code,
        with_unsafe: sum.with_unsafe + source.with_unsafe,
        unsafe_files: sum.unsafe_files + usize::from(source.with_unsafe > 0),
    })
}

/// The files of this workspace's crates that are in an image with symbols, in the order of their paths.
///
/// # Errors
/// When the image or the source cannot be read.
pub fn sources(root: &Path, image: &Path) -> anyhow::Result<Vec<Source>> {
    let rows = rows(image)?;
    let mut files = BTreeMap::new();
    let mut crates = BTreeSet::new();
    for (file, lines) in &rows {
        // A package outside of the tree names its files by their whole paths.
        let file = file.strip_prefix(&format!("{}/", root.display())).unwrap_or(file);
        let Some(package) = file.strip_prefix("crates/").and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        crates.insert(package.to_owned());
        files.insert(PathBuf::from(file), lines.clone());
    }
    for package in &crates {
        add_assembly(root, &Path::new("crates").join(package).join("src"), &mut files)?;
    }
    let mut sources = Vec::new();
    for (file, lines) in files {
        let text = fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let (code, with_unsafe) =
            count_text(&text, &lines).with_context(|| format!("cannot parse {}", file.display()))?;
        sources.push(Source { file: file.to_string_lossy().into_owned(), code, with_unsafe });
    }
    Ok(sources)
}

/// The lines that the image's code came from, by file.
fn rows(image: &Path) -> anyhow::Result<BTreeMap<String, BTreeSet<usize>>> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let elf = object::File::parse(&*bytes).with_context(|| format!("{} is no image", image.display()))?;
    let loader = Loader::new(image).map_err(|e| anyhow!("cannot read {}: {e}", image.display()))?;
    let mut rows: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for section in elf.sections().filter(|s| s.kind() == SectionKind::Text) {
        let (start, end) = (section.address(), section.address() + section.size());
        let places = loader.find_location_range(start, end);
        for (_, _, place) in places.map_err(|e| anyhow!("the lines of {}: {e}", image.display()))? {
            if let (Some(file), Some(line)) = (place.file, place.line) {
                rows.entry(plain(file)).or_default().insert(line as usize);
            }
        }
    }
    Ok(rows)
}

/// A path without `.` and `..`: one file has one name, also when two crates use it.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        match part {
            ".." if parts.last().is_some_and(|last| !matches!(*last, "" | "..")) => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Adds the files with assembly, which has no line table.
fn add_assembly(
    root: &Path,
    dir: &Path,
    files: &mut BTreeMap<PathBuf, BTreeSet<usize>>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = dir.join(entry?.file_name());
        if root.join(&path).is_dir() {
            add_assembly(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs")
            && fs::read_to_string(root.join(&path))?.contains("global_asm!(")
        {
            files.entry(path).or_default();
        }
    }
    Ok(())
}

/// First and last line of each function, the outer ones first.
#[derive(Default)]
struct Functions(Vec<(usize, usize)>);

impl Functions {
    fn add(&mut self, item: &impl Spanned) {
        let span = item.span();
        self.0.push((span.start().line, span.end().line));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(item);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(item);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        // One without a body is a declaration.
        if item.default.is_some() {
            self.add(item);
            syn::visit::visit_trait_item_fn(self, item);
        }
    }
}

/// Lines of code that count, and those of them with `unsafe`, in a file that gave the image code from these lines.
fn count_text(text: &str, rows: &BTreeSet<usize>) -> syn::Result<(usize, usize)> {
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(text)?);
    let mut dead = BTreeSet::new();
    for (first, last) in functions.0 {
        let is_linked = rows.range(first..=last).next().is_some();
        for line in first..=last {
            if is_linked {
                dead.remove(&line)
            } else {
                dead.insert(line)
            };
        }
    }
    let mut lines = code_lines(text)?;
    lines.retain(|line, _| !dead.contains(line));
    Ok(sum(&lines))
}

/// Lines that are neither blank nor comment nor behind the first `#[cfg(test)]`, and whether they say `unsafe`.
///
/// # Errors
/// When this is no Rust.
pub fn code_lines(text: &str) -> syn::Result<BTreeMap<usize, bool>> {
    let code = (1..).zip(text.lines().map(str::trim)).take_while(|(_, line)| *line != "#[cfg(test)]");
    let code = code.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"));
    let mut lines: BTreeMap<_, _> = code.map(|(number, _)| (number, false)).collect();
    // By tokens: in a string or a comment it is another word.
    let mut streams = vec![text.parse::<TokenStream>()?];
    while let Some(stream) = streams.pop() {
        for token in stream {
            match token {
                TokenTree::Group(group) => streams.push(group.stream()),
                TokenTree::Ident(word) if word == "unsafe" => {
                    lines.entry(word.span().start().line).and_modify(|says| *says = true);
                }
                _ => {}
            }
        }
    }
    Ok(lines)
}

/// The number of such lines, and of those with `unsafe`.
pub fn sum(lines: &BTreeMap<usize, bool>) -> (usize, usize) {
    (lines.len(), lines.values().filter(|says| **says).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "//! Words.\n\
                        use a::b;\n\
                        \n\
                        /// Linked.\n\
                        fn one() {\n    // Why.\n    unsafe { b() }\n}\n\
                        \n\
                        struct S;\n\
                        impl S {\n    fn two(&self) {\n        unsafe { b() }\n    }\n}\n\
                        \n\
                        #[cfg(test)]\n\
                        mod tests {\n    fn three() {}\n}\n";

    #[test]
    fn one_file_has_one_name() {
        assert_eq!(plain("./crates/a/src/../../b/src/c.rs"), "crates/b/src/c.rs");
        assert_eq!(plain("/x/./y"), "/x/y");
        assert_eq!(plain("../y"), "../y");
    }

    #[test]
    fn functions_without_code_in_the_image_do_not_count() {
        // use, fn, unsafe, }, struct, impl, }
        assert_eq!(count_text(TEXT, &BTreeSet::from([7])).unwrap(), (7, 1));
        // ... and three lines more.
        assert_eq!(count_text(TEXT, &BTreeSet::from([7, 13])).unwrap(), (10, 2));
        assert_eq!(count_text(TEXT, &BTreeSet::new()).unwrap(), (4, 0));
        assert!(count_text("fn", &BTreeSet::new()).is_err());
    }

    #[test]
    fn counts_code_and_not_comments_blanks_or_tests() {
        let text = "//! Doc.\n#![expect(unsafe_code)]\n\nfn a() {\n    // unsafe\n    unsafe { b() }\n}\n\n#[cfg(test)]\nmod tests { unsafe {} }\n";
        assert_eq!(sum(&code_lines(text).unwrap()), (4, 1));
    }

    #[test]
    fn the_word_in_a_string_or_a_comment_is_another() {
        let text = "fn f() {\n    g(\"unsafe\"); // unsafe\n    /* unsafe */ m!(unsafe { h() });\n}\n";
        assert_eq!(sum(&code_lines(text).unwrap()), (4, 1));
        assert!(code_lines("fn f( {").is_err());
    }

    #[test]
    fn this_program_has_lines_of_its_own() {
        let rows = rows(&std::env::current_exe().unwrap()).unwrap();
        assert!(rows.keys().any(|file| file.ends_with("linked.rs")), "{} files", rows.len());
    }
}
