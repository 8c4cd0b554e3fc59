//! `casemate symbolize`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
};

use anyhow::Context;

use crate::{cli, symbolize::Symbolizer};

/// Copies a text to standard output, with names for the addresses in it.
///
/// # Errors
/// When a file cannot be read.
pub fn symbolize(options: &cli::Symbolize) -> anyhow::Result<ExitCode> {
    // The image itself was stripped, if there is a file with its symbols beside it.
    let image = super::run::debug_file(&options.image).unwrap_or_else(|| options.image.clone());
    let symbols = Symbolizer::new(&image)?;
    let input: Box<dyn BufRead> = match &options.file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(io::stdin().lock()),
    };
    let mut output = io::stdout().lock();
    for line in input.split(b'\n') {
        let line = line.context("cannot read the text")?;
        writeln!(output, "{}", symbols.line(&String::from_utf8_lossy(&line)))?;
    }
    Ok(ExitCode::SUCCESS)
}
