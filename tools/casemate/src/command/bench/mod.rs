//! `casemate bench`: the evaluation. Measures IDC and its peers between processes, between dom0 and a Linux guest, and
//! between dom0 and a library-OS domain; boot and size; compares runs; draws the figures and writes the report.
//!
//! Results are lines of JSON ([`idcperf::record`]). Whoever measures only adds lines, whoever draws only reads them.

mod boot;
mod compare;
mod figures;
mod goals;
mod machines;
mod plan;
mod reasons;
mod report;
mod shape;

use std::{
    fs::{self, File},
    io::{BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use idcperf::record::{self, Record};

pub use self::plan::Section as BenchSection;
use self::{
    machines::Amount,
    plan::{Effort, Section},
};
use crate::{
    cli::{self, BenchAction},
    interrupt::Interrupt,
    ui::Ui,
    workspace::Workspace,
};

/// Measures, compares or reports.
///
/// # Errors
/// When something cannot be built, run, read or written.
pub fn bench(options: &cli::Bench, ui: &Ui) -> anyhow::Result<ExitCode> {
    match &options.action {
        None => measure(options, ui),
        Some(BenchAction::Compare(options)) => {
            let (a, b) = (read(&options.a)?, read(&options.b)?);
            let changes = compare::changes(&a, &b);
            ensure!(!changes.is_empty(), "the two files have no measurement in common");
            print!("{}", compare::table(&changes, options.only.as_deref()));
            Ok(ExitCode::SUCCESS)
        }
        Some(BenchAction::Report(options)) => {
            let mut records = Vec::new();
            for file in &options.results {
                records.extend(read(file)?);
            }
            let docs = match &options.out {
                Some(dir) => dir.clone(),
                None => Workspace::find()?.root.join("docs"),
            };
            write_report(&records, &docs, ui)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn write_report(records: &[Record], docs: &Path, ui: &Ui) -> anyhow::Result<()> {
    let dir = docs.join("figures");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let drawn = figures::draw_all(records, &dir)?;
    ensure!(!drawn.is_empty(), "these results are not enough for a single figure");
    let text = report::markdown(records, &drawn);
    let path = docs.join("evaluation.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    ui.step(format!("{} figures in {}, report in {}", drawn.len(), dir.display(), path.display()));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    record::read(BufReader::new(file)).with_context(|| format!("{} is no file of results", path.display()))
}

/// Where results go, each as soon as it is there.
pub struct Sink {
    file: File,
    path: PathBuf,
    records: Vec<Record>,
}

impl Sink {
    /// A new file; one of that name is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: PathBuf) -> anyhow::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file, path, records: Vec::new() })
    }

    /// Writes a result.
    ///
    /// # Errors
    /// When that fails.
    pub fn add(&mut self, record: Record) -> anyhow::Result<()> {
        writeln!(self.file, "{}", record.to_line())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.records.push(record);
        Ok(())
    }
}

fn measure(options: &cli::Bench, ui: &Ui) -> anyhow::Result<ExitCode> {
    super::setup::ensure(ui)?;
    let workspace = Workspace::find()?;
    let interrupt = Interrupt::install()?;
    let path = match &options.out {
        Some(path) => path.clone(),
        None => workspace.target.join("bench/results.jsonl"),
    };
    let mut sink = Sink::create(path)?;
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    let amount = Amount { effort, tests: options.test.clone() };
    let sections = if options.only.is_empty() { Section::ALL.to_vec() } else { options.only.clone() };
    let modes: Vec<_> = match (options.mode, options.quick) {
        (Some(mode), _) => vec![mode.into()],
        (None, true) => vec![testbed::proto::Mode::Pv],
        (None, false) => vec![testbed::proto::Mode::Pv, testbed::proto::Mode::Pvh],
    };
    machines::run(&workspace, &options.bed, &sections, &modes, &amount, &mut sink, ui)?;
    drop(interrupt);
    ensure!(!sink.records.is_empty(), "nothing was measured");
    ui.step(format!("{} results in {}", sink.records.len(), sink.path.display()));
    if options.figures {
        write_report(&sink.records, &workspace.root.join("docs"), ui)?;
    }
    let verdicts = shape::judge(&sink.records);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let bad = verdicts.iter().any(|verdict| !verdict.holds);
    Ok(if bad && options.quick { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What [`quick`] measures.
pub const QUICK_TESTS: [&str; 4] = ["stream", "back", "roundtrip", "fan"];

/// The hosted part and one guest, quickly, for the test command: what was measured.
///
/// # Errors
/// When something cannot be built or run.
pub fn quick(
    workspace: &Workspace,
    bed: &cli::BedArgs,
    path: PathBuf,
    ui: &Ui,
) -> anyhow::Result<Vec<Record>> {
    let mut sink = Sink::create(path)?;
    let sections = [Section::Hosted, Section::Libos];
    let modes = [testbed::proto::Mode::Pv];
    let tests = QUICK_TESTS.map(str::to_owned).to_vec();
    let amount = Amount { effort: Effort::Quick, tests };
    machines::run(workspace, bed, &sections, &modes, &amount, &mut sink, ui)?;
    Ok(sink.records)
}
