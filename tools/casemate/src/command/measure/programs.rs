//! What the tool chain costs: the SDK's own build, the sizes of the smallest programs, and the time from a changed
//! source to its first line on the console.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use testbed::{DomainConfig, TestBed, proto::Mode};

use super::Numbers;
use crate::{
    command::{
        build::{Builder, Source},
        new,
    },
    toolchain::{self, Place},
    ui::Ui,
    workspace::Workspace,
};

const HELLO: &str = "#include <stdio.h>\n\nint main(void)\n{\n\tprintf(\"hello, world\\n\");\n}\n";
/// What the program prints.
const LINE: &[u8] = b"hello, world";
/// Nominal time limit of it.
const LIMIT: Duration = Duration::from_secs(60);

/// Times in seconds.
#[derive(Debug, Default, Serialize)]
pub struct Times {
    /// Building and installing the SDK with downloads at hand.
    pub sdk: f64,
    /// Compiling and linking hello in C.
    pub compile: Vec<f64>,
    /// From the start of that to the first line on the console, by mode.
    pub to_console: Vec<(String, f64)>,
}

/// Builds the SDK once more, and the smallest programs: their sizes.
///
/// # Errors
/// When something cannot be built.
pub fn sizes(workspace: &Workspace, numbers: &mut Numbers, ui: &Ui) -> anyhow::Result<()> {
    let dir = workspace.target.join("measure");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let builder = Builder::new(workspace, None, ui);
    // The downloads, so that the time is not that of a network.
    builder.sdk()?;
    let place = Place { prefix: dir.join("sdk"), musl_source: None };
    let began = Instant::now();
    toolchain::install(workspace, builder.kernel()?, &place, ui)?;
    numbers.times.sdk = began.elapsed().as_secs_f64();

    let hello = compile(workspace, &builder)?;
    let stripped = hello.with_extension("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&hello).status();
    ensure!(strip.context("cannot run strip")?.success(), "strip failed");
    numbers.images.insert("hello in C".to_owned(), fs::metadata(&stripped)?.len());
    for (name, template, profile) in [
        ("casemate new --no-std", &new::RUST_NO_STD, None),
        ("casemate new", &new::RUST_PROGRAM, None),
        ("casemate new, --profile small", &new::RUST_PROGRAM, Some("small")),
    ] {
        let folder = dir.join(format!("hello{}", numbers.images.len()));
        template.write(workspace, &folder, "hello")?;
        let source = Source::named(workspace, &folder.display().to_string())?;
        let images = Builder::new(workspace, profile, ui).images(&source)?;
        let image = images.first().context("no image")?;
        numbers.images.insert(name.to_owned(), image.info.file_size);
    }
    Ok(())
}

fn compile(workspace: &Workspace, builder: &Builder<'_>) -> anyhow::Result<PathBuf> {
    let source = workspace.target.join("measure/hello.c");
    let image = source.with_extension("image");
    fs::write(&source, HELLO).with_context(|| format!("cannot write {}", source.display()))?;
    let status = Command::new(builder.sdk()?.tool("gcc")).arg(&source).arg("-o").arg(&image).status();
    ensure!(status.context("cannot run the SDK's gcc")?.success(), "hello.c does not compile");
    Ok(image)
}

/// Compiles hello in C and boots it, `rounds` times in each mode.
///
/// # Errors
/// When it does not say hello.
pub fn times(
    bed: &TestBed,
    workspace: &Workspace,
    rounds: u32,
    numbers: &mut Numbers,
    ui: &Ui,
) -> anyhow::Result<()> {
    let builder = Builder::new(workspace, None, ui);
    builder.sdk()?;
    for _ in 0..rounds {
        for mode in [Mode::Pv, Mode::Pvh] {
            let began = Instant::now();
            let image = compile(workspace, &builder)?;
            numbers.times.compile.push(began.elapsed().as_secs_f64());
            let mut config = DomainConfig::new(&image, mode);
            config.limit = Some(bed.limits().scale(LIMIT));
            let (mut printed, mut seen) = (Vec::new(), None);
            bed.run_domain(&config, |piece| {
                printed.extend_from_slice(piece);
                if seen.is_none() && printed.windows(LINE.len()).any(|w| w == LINE) {
                    seen = Some(began.elapsed().as_secs_f64());
                }
            })?;
            numbers.times.to_console.push((mode.to_string(), seen.context("hello said nothing")?));
        }
    }
    Ok(())
}
