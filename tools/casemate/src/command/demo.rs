//! `casemate demo`: from the source to a file hashed by a domain of its own, on PV and on PVH; then programs in C and in
//! Rust with std, as `casemate new` writes them, each in a domain; then a Linux guest whose TPM is in a domain beside it.

mod vtpm;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use testbed::{DomainConfig, TestBed, host, proto::Mode};

use super::{
    build::{Builder, Source, build_packages},
    new, setup,
};
use crate::{beside, cli, image::finish::Image, interrupt::Interrupt, session, ui::Ui, workspace::Workspace};

/// The service domain and its client.
const SERVICE: &str = "digest";
const CLIENT: &str = "casemate-digest-client";

/// Memory for a Linux guest and its vTPM, in MiB.
const VTPM_MIB: u32 = beside::GUEST_MIB + beside::MEMORY_MIB;

/// Nominal limit for one run of the client.
const LIMIT: Duration = Duration::from_secs(60);

/// What the client prints with `--json`.
#[derive(Deserialize)]
struct Answer {
    digest: String,
    bytes: u64,
    seconds: f64,
}

/// What was seen in one mode.
#[derive(Serialize)]
struct Result {
    mode: Mode,
    /// The digest that came from the domain.
    digest: String,
    bytes: u64,
    /// Time from the opened channel to the digest.
    seconds: f64,
    mib_per_second: f64,
    /// Time that `xl create` took.
    create_seconds: f64,
    /// Time from the start of `xl create` to the first digest, that of an empty file.
    first_answer_seconds: f64,
    image_bytes: u64,
    memory_mib: u64,
}

/// A program as a domain.
#[derive(Serialize)]
struct Program {
    language: &'static str,
    mode: Mode,
    /// What it printed.
    line: String,
    /// Time from the start of `xl create` to its end.
    seconds: f64,
    image_bytes: u64,
}

/// Programs to show: the language, the folder's name and the template.
const PROGRAMS: [(&str, &str, &new::Template); 2] =
    [("C", "hello-c", &new::C_PROGRAM), ("Rust std", "hello-std", &new::RUST_PROGRAM)];

/// Everything that was seen.
#[derive(Serialize)]
struct Summary {
    file: PathBuf,
    /// What `sha256sum` says in dom0.
    sha256sum: String,
    xen: String,
    dom0: String,
    boot_seconds: f64,
    results: Vec<Result>,
    programs: Vec<Program>,
    quote: vtpm::Quote,
}

/// Shows the whole way.
///
/// # Errors
/// When a step of it fails, or the digests differ.
pub fn demo(options: &cli::Demo, ui: &Ui) -> anyhow::Result<ExitCode> {
    setup::ensure(ui)?;
    let workspace = Workspace::find()?;
    let file = match &options.file {
        Some(file) => file.clone(),
        None => host::kernel()?.image,
    };
    ensure!(file.is_file(), "there is no file {}", file.display());
    let images = build_packages(&workspace, &[SERVICE.to_owned()], ui)?;
    let image =
        images.iter().find(|i| i.name == SERVICE).context("no image of the digest service was built")?;
    let client = workspace.static_program(CLIENT, ui)?;
    for mode in [Mode::Pv, Mode::Pvh] {
        image.info.fits(mode, options.memory)?;
    }
    let programs = build_programs(&workspace, ui)?;
    let built = beside::build(&workspace, ui)?;
    let began = Instant::now();
    let _interrupt = Interrupt::install()?;
    let bed = session::open(&workspace, &options.bed, options.memory.max(VTPM_MIB), ui)?;
    ui.step(format!("copying {} into dom0", file.display()));
    let demo =
        Demo { bed: &bed, image, client: bed.put(&client)?, file: bed.put(&file)?, memory: options.memory };
    let sha256sum = demo.sha256sum()?;
    let mut results = Vec::new();
    for mode in [Mode::Pv, Mode::Pvh] {
        let bar = ui.spinner(format!("hashing in a domain of its own, {}", mode.name().to_uppercase()));
        let result = demo.run(mode);
        bar.finish_and_clear();
        results.push(result.with_context(|| format!("the domain ({mode}) did not do its work"))?);
    }
    let mut seen = Vec::new();
    for (language, image) in &programs {
        for mode in [Mode::Pv, Mode::Pvh] {
            seen.push(demo.program(language, image, mode)?);
        }
    }
    let quote = vtpm::quote(&bed, &workspace, &built, Mode::Pvh, &|what| ui.step(what));
    let quote = quote.context("the vTPM did not do its work")?;
    let hello = bed.hello();
    let summary = Summary {
        file,
        sha256sum,
        xen: hello.xen.clone(),
        dom0: hello.kernel.clone(),
        boot_seconds: bed.boot_time().as_secs_f64(),
        results,
        programs: seen,
        quote,
    };
    bed.shutdown()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print(&summary, began.elapsed());
    }
    match summary.results.iter().find(|r| r.digest != summary.sha256sum) {
        None => Ok(ExitCode::SUCCESS),
        Some(wrong) => bail!("the digest from the {} domain is wrong", wrong.mode),
    }
}

/// Writes and builds the programs, with the SDK.
fn build_programs(workspace: &Workspace, ui: &Ui) -> anyhow::Result<Vec<(&'static str, Image)>> {
    let build = |(language, name, template): (&'static str, &str, &new::Template)| {
        let dir = workspace.target.join("demo").join(name);
        template.write(workspace, &dir, name)?;
        let source = Source::named(workspace, &dir.display().to_string())?;
        let images = Builder::new(workspace, None, ui).images(&source)?;
        Ok((language, images.into_iter().next().context("no image")?))
    };
    PROGRAMS.into_iter().map(build).collect()
}

struct Demo<'a> {
    bed: &'a TestBed,
    image: &'a Image,
    /// Paths in dom0.
    client: String,
    file: String,
    memory: u32,
}

impl Demo<'_> {
    /// The digest as dom0's own tool computes it.
    fn sha256sum(&self) -> anyhow::Result<String> {
        let output = self.command(&["sha256sum", &self.file])?;
        let digest = output.split_whitespace().next().unwrap_or_default();
        ensure!(digest.len() == 64, "sha256sum printed {output:?}");
        Ok(digest.to_owned())
    }

    fn run(&self, mode: Mode) -> anyhow::Result<Result> {
        let mut config = DomainConfig::new(&self.image.path, mode);
        config.memory_mib = self.memory;
        let domain = self.bed.start_domain(&config)?;
        let id = domain.id().to_string();
        let work = || {
            let wait = self.bed.limits().scale(LIMIT).as_secs().to_string();
            let client = [self.client.as_str(), "--domid", &id, "--wait", &wait, "--json"];
            self.command(&[&client[..], &["/dev/null"]].concat())?;
            let uptime = self.command(&["cat", "/proc/uptime"])?;
            let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse().context("/proc/uptime")?;
            let answer = self.command(&[&client[..], &[&self.file]].concat())?;
            let answer: Answer =
                serde_json::from_str(&answer).context("the client printed something unknown")?;
            anyhow::Ok((uptime, answer))
        };
        let worked = work().map_err(|e| {
            // What the domain itself has to say is worth more than what its client saw.
            let console = domain.console().unwrap_or_default();
            e.context(format!(
                "the console of the domain says:\n{}",
                String::from_utf8_lossy(&console).trim_end()
            ))
        });
        let (uptime, answer) = worked?;
        let state = domain.state()?;
        domain.destroy()?;
        Ok(Result {
            mode,
            mib_per_second: answer.bytes as f64 / answer.seconds / f64::from(1 << 20),
            digest: answer.digest,
            bytes: answer.bytes,
            seconds: answer.seconds,
            create_seconds: domain.create_time().as_secs_f64(),
            first_answer_seconds: uptime - Duration::from_nanos(domain.began_ns()).as_secs_f64(),
            image_bytes: self.image.info.file_size,
            memory_mib: state.memory_mib,
        })
    }

    /// Runs a program as a domain, which has to say hello.
    fn program(&self, language: &'static str, image: &Image, mode: Mode) -> anyhow::Result<Program> {
        let mut config = DomainConfig::new(&image.path, mode);
        config.cmdline = "Xen".to_owned();
        config.limit = Some(self.bed.limits().scale(LIMIT));
        let began = Instant::now();
        let report = self.bed.run_domain(&config, |_| ())?;
        let seconds = began.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&report.console).into_owned();
        let line = text.lines().find(|line| line.starts_with("Hello")).map(str::trim_end);
        let line = line.filter(|_| report.end.status == Some(0));
        let line =
            line.with_context(|| format!("{} ({mode}) ended with {:?}:\n{text}", image.name, report.end))?;
        Ok(Program { language, mode, line: line.to_owned(), seconds, image_bytes: image.info.file_size })
    }

    /// Runs a program in dom0 that has to succeed, and returns what it prints.
    fn command(&self, argv: &[&str]) -> anyhow::Result<String> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let limit = Some(2 * self.bed.limits().scale(LIMIT));
        let status = self.bed.run(argv, &[], limit, |stream, piece| match stream {
            testbed::proto::Stream::Stderr => stderr.extend_from_slice(piece),
            _ => stdout.extend_from_slice(piece),
        })?;
        let name = Path::new(argv.first().copied().unwrap_or_default()).file_name().unwrap_or_default();
        ensure!(
            status == 0,
            "{} failed in dom0 with status {status}: {}",
            name.display(),
            String::from_utf8_lossy(&stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

fn print(summary: &Summary, took: Duration) {
    println!("file              {}", summary.file.display());
    println!("sha256sum (dom0)  {}", summary.sha256sum);
    for r in &summary.results {
        let name = r.mode.name().to_uppercase();
        let verdict = if r.digest == summary.sha256sum { "equal" } else { "DIFFERENT" };
        println!("{name:3} domain        {}  {verdict}", r.digest);
        println!(
            "    {} bytes in {:.3} s ({:.1} MiB/s); {:.2} s from xl create to the first answer ({:.2} s of it xl create)",
            r.bytes, r.seconds, r.mib_per_second, r.first_answer_seconds, r.create_seconds
        );
        println!("    image {} bytes, domain memory {} MiB", r.image_bytes, r.memory_mib);
    }
    for p in &summary.programs {
        let mode = p.mode.name().to_uppercase();
        println!("{mode:3} {:<13} {}", p.language, p.line);
        println!("    image {} bytes; {:.2} s from xl create to its end", p.image_bytes, p.seconds);
    }
    summary.quote.print();
    println!("boot of Xen and dom0 {:.1} s, everything {:.1} s", summary.boot_seconds, took.as_secs_f64());
}
