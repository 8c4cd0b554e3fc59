//! `casemate measure`: the numbers of the README, as Markdown.

mod programs;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use testbed::{
    DomainConfig, TestBed,
    proto::{Mode, Reason},
};

use super::build::build_packages;
use crate::{cli, image::finish::Image, linked, session, ui::Ui, workspace::Workspace};

/// Image that prints the cycles from its first instruction to the application.
pub(super) const BOOT: &str = "boot";
/// Sizes of memory at which boot is measured, in MiB.
const SIZES: [u32; 3] = [4, 32, 256];
/// Images whose size is reported.
const IMAGES: [&str; 3] = ["hello", "echo", "digest"];
/// Nominal time limit of one domain.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Numbers {
    /// Bytes of stripped images.
    images: BTreeMap<String, u64>,
    /// Cycles from entry to the application, by mode and memory in MiB: all rounds, sorted.
    boot: BTreeMap<String, Vec<u64>>,
    /// Smallest memory in MiB with which hello runs, by mode.
    smallest: BTreeMap<String, u32>,
    /// Lines of code and lines with `unsafe`, by folder.
    lines: BTreeMap<String, (usize, usize)>,
    /// What the tool chain takes.
    times: programs::Times,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be built or run.
pub fn measure(options: &cli::Measure, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let images = build_packages(&workspace, &[], ui)?;
    let mut numbers = Numbers::default();
    for name in IMAGES {
        numbers.images.insert(name.to_owned(), find(&images, name)?.info.file_size);
    }
    programs::sizes(&workspace, &mut numbers, ui)?;
    count_lines(&workspace.root, &mut numbers.lines)?;
    let largest = SIZES.iter().max().copied().unwrap_or_default();
    let bed = session::open(&workspace, &options.bed, largest, ui)?;
    measure_boot(&bed, find(&images, BOOT)?, options.rounds, &mut numbers, ui)?;
    find_smallest(&bed, find(&images, "hello")?, &mut numbers)?;
    programs::times(&bed, &workspace, options.rounds, &mut numbers, ui)?;
    bed.shutdown()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&numbers)?);
    } else {
        print_tables(&numbers);
    }
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(images: &'a [Image], name: &str) -> anyhow::Result<&'a Image> {
    images.iter().find(|i| i.name == name).with_context(|| format!("there is no image {name}"))
}

/// Runs a domain to its end: what it printed, if it ended well.
fn run(bed: &TestBed, image: &Image, mode: Mode, memory_mib: u32) -> anyhow::Result<Option<String>> {
    let mut config = DomainConfig::new(&image.path, mode);
    config.memory_mib = memory_mib;
    "one \"two words\" env.COLOUR=green 3".clone_into(&mut config.cmdline);
    config.limit = Some(bed.limits().scale(LIMIT));
    let report = bed.run_domain(&config, |_| ())?;
    let good = report.end.reason == Reason::PowerOff && report.end.status == Some(0);
    Ok(good.then(|| String::from_utf8_lossy(&report.console).into_owned()))
}

/// Boots the image that counts: cycles from entry to the application.
///
/// # Errors
/// When it does not boot, or does not say.
pub(super) fn boot_cycles(bed: &TestBed, image: &Image, mode: Mode, memory_mib: u32) -> anyhow::Result<u64> {
    let console = run(bed, image, mode, memory_mib)?.context("the boot test failed")?;
    let cycles = console.lines().find_map(|l| l.trim().split_once(" cycles from entry")?.0.parse().ok());
    cycles.context("the boot test printed no cycles")
}

/// All modes and sizes in turn, round after round, so that a change in the machine's load meets all alike.
fn measure_boot(
    bed: &TestBed,
    image: &Image,
    rounds: u32,
    numbers: &mut Numbers,
    ui: &Ui,
) -> anyhow::Result<()> {
    let bar = ui.bar(u64::from(rounds) * (SIZES.len() * Mode::ALL.len()) as u64, "boots");
    for _ in 0..rounds {
        for mode in Mode::ALL {
            for size in SIZES {
                let cycles = boot_cycles(bed, image, mode, size)?;
                numbers.boot.entry(format!("{mode} {size:3} MiB")).or_default().push(cycles);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    numbers.boot.values_mut().for_each(|v| v.sort_unstable());
    Ok(())
}

/// Tries less and less memory until the toolstack or the image refuses.
fn find_smallest(bed: &TestBed, image: &Image, numbers: &mut Numbers) -> anyhow::Result<()> {
    for mode in Mode::ALL {
        let fits = |size: &u32| matches!(run(bed, image, mode, *size), Ok(Some(_)));
        let smallest = (1..=4).rev().take_while(fits).last();
        numbers.smallest.insert(mode.to_string(), smallest.context("hello does not run in 4 MiB")?);
    }
    Ok(())
}

/// Counts what is neither blank nor comment nor test, for each crate.
pub(super) fn count_lines(root: &Path, lines: &mut BTreeMap<String, (usize, usize)>) -> anyhow::Result<()> {
    for group in ["crates", "domains", "tools", "examples"] {
        for package in sorted(&root.join(group))? {
            let name = package.strip_prefix(root).unwrap_or(&package).display().to_string();
            count_folder(&package.join("src"), lines.entry(name).or_default())?;
        }
    }
    ensure!(!lines.is_empty(), "found no source");
    Ok(())
}

fn sorted(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn count_folder(dir: &Path, count: &mut (usize, usize)) -> anyhow::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for path in sorted(dir)? {
        if path.is_dir() {
            count_folder(&path, count)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let lines =
                linked::code_lines(&text).with_context(|| format!("cannot parse {}", path.display()))?;
            let (code, unsafe_) = linked::sum(&lines);
            *count = (count.0 + code, count.1 + unsafe_);
        }
    }
    Ok(())
}

fn median(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_tables(numbers: &Numbers) {
    println!("| stripped image | bytes |\n|---|---:|");
    for (name, bytes) in &numbers.images {
        println!("| {name} | {bytes} |");
    }
    println!("\n| entry to application | median, million cycles | least |\n|---|---:|---:|");
    for (name, rounds) in &numbers.boot {
        let million = |c: Option<&u64>| c.map_or(0.0, |c| *c as f64 / 1e6);
        let (median, least) = (million(rounds.get(rounds.len() / 2)), million(rounds.first()));
        println!("| {name} | {median:.1} | {least:.1} |");
    }
    let times = &numbers.times;
    println!("\n| tool chain | seconds |\n|---|---:|");
    println!("| building and installing the SDK, downloads at hand | {:.1} |", times.sdk);
    println!("| compiling and linking hello in C, median | {:.2} |", median(times.compile.iter().copied()));
    for mode in Mode::ALL {
        let of_mode = times.to_console.iter().filter(|(name, _)| *name == mode.to_string()).map(|(_, t)| *t);
        println!("| from source to the first line on the console, {mode}, median | {:.2} |", median(of_mode));
    }
    println!("\n| smallest memory that runs hello | MiB |\n|---|---:|");
    for (mode, size) in &numbers.smallest {
        println!("| {mode} | {size} |");
    }
    println!("\n| crate | lines of code | with `unsafe` |\n|---|---:|---:|");
    for (name, (code, unsafe_)) in &numbers.lines {
        println!("| {name} | {code} | {unsafe_} |");
    }
}
