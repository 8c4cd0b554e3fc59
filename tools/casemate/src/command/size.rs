//! `casemate size`.

use std::{path::Path, process::ExitCode};

use anyhow::{bail, ensure};
use sdk::size::{Report, Sizes, report};
use serde_json::{Value, json};

use super::run::debug_file;
use crate::{cli, linked, workspace::Workspace};

/// Says what takes the space in images.
///
/// # Errors
/// When a file is no image.
pub fn size(options: &cli::Size) -> anyhow::Result<ExitCode> {
    if options.compare {
        let reports = options.images.iter().map(|image| Ok((image.as_path(), read(image)?)));
        compare(&reports.collect::<anyhow::Result<Vec<_>>>()?, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [image] = options.images.as_slice() else {
        bail!("one image at a time, or several with --compare");
    };
    if options.source {
        source(image, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = read(image)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&value(&report))?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of source in an image, by file.
fn source(image: &Path, as_json: bool) -> anyhow::Result<()> {
    ensure!(image.is_file(), "there is no file {}", image.display());
    let debug = debug_file(image).unwrap_or_else(|| image.to_owned());
    let files = linked::sources(&Workspace::find()?.root, &debug)?;
    ensure!(
        !files.is_empty(),
        "{} has no line table, or nothing of Casemate's source is in it: lines are counted in NAME.debug beside an image \
         that `casemate build` made",
        debug.display()
    );
    let sum = linked::total(&files);
    if as_json {
        let rows = files.iter().map(|f| json!({ "file": f.file, "lines": f.code, "unsafe": f.with_unsafe }));
        let value = json!({
            "lines": sum.code,
            "unsafe": sum.with_unsafe,
            "unsafe_files": sum.unsafe_files,
            "files": rows.collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    println!("{:>7} {:>7}  file", "lines", "unsafe");
    for file in &files {
        println!("{:>7} {:>7}  {}", file.code, file.with_unsafe, file.file);
    }
    println!(
        "{:>7} {:>7}  in {} files, {} with `unsafe`",
        sum.code,
        sum.with_unsafe,
        files.len(),
        sum.unsafe_files
    );
    Ok(())
}

/// The report of an image, from its symbols.
fn read(image: &Path) -> anyhow::Result<Report> {
    ensure!(image.is_file(), "there is no file {}", image.display());
    Ok(report(&debug_file(image).unwrap_or_else(|| image.to_owned()), None)?)
}

fn compare(reports: &[(&Path, Report)], as_json: bool) -> anyhow::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if as_json {
        let values = reports.iter().map(|(path, report)| {
            json!({ "image": path, "stripped_file": report.loaded_file, "sizes": sizes(&report.total) })
        });
        println!("{}", serde_json::to_string_pretty(&values.collect::<Vec<_>>())?);
        return Ok(());
    }
    println!("| image | stripped file | code | read-only | data | zeroed |\n|---|---:|---:|---:|---:|---:|");
    for (path, report) in reports {
        let Sizes { code, read_only, data, zeroed } = report.total;
        println!("| {} | {} | {code} | {read_only} | {data} | {zeroed} |", name(path), report.loaded_file);
    }
    Ok(())
}

fn value(report: &Report) -> Value {
    let rows = |rows: &[(String, Sizes)]| -> Vec<Value> {
        rows.iter().map(|(name, s)| json!({ "name": name, "sizes": sizes(s) })).collect()
    };
    json!({
        "sections": rows(&report.sections),
        "groups": rows(&report.groups),
        "total": sizes(&report.total),
        "stripped_file": report.loaded_file,
        "from_map": report.from_map,
    })
}

fn sizes(sizes: &Sizes) -> Value {
    let Sizes { code, read_only, data, zeroed } = sizes;
    json!({ "code": code, "read_only": read_only, "data": data, "zeroed": zeroed })
}
