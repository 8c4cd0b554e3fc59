//! `casemate vtpm measure`: the vTPM against swtpm, on the test bed: both in or beside the same Linux guest, in one run.

use std::{process::ExitCode, time::Instant};

use anyhow::Context;
use idcperf::record::{Record, load};
use sdk::size::{Sizes, report};
use serde::Serialize;
use serde_json::{Value, json};
use testbed::{LinuxConfig, proto::Mode};

use crate::{
    beside::{self, MEMORY_MIB, Pair, START_SWTPM, START_SWTPM_SOCKET},
    cli,
    command::{bench::Sink, run::debug_file, setup},
    session,
    ui::Ui,
    workspace::Workspace,
};

/// Memory for guest, vTPM and the guest whose boot is measured, in MiB.
const DOMAINS_MIB: u32 = 512;

/// Components of the image that are shown.
const COMPONENTS: usize = 8;

/// Everything that was measured in one mode.
#[derive(Serialize)]
struct Numbers {
    mode: Mode,
    /// Over IDC, against swtpm's Unix socket: rows of `vtpmd measure`, in microseconds.
    idc: Value,
    /// `/dev/tpm0`, against that of swtpm behind the same driver; or why not.
    device: Value,
    /// Memory of the domain.
    memory_mib: u32,
    /// Seconds from the start of `xl create` to the TPM's first answer: all rounds.
    first_answer: Vec<f64>,
    /// Seconds from the start of `xl create` to a Linux guest that takes jobs: all rounds.
    linux_boot: Vec<f64>,
    /// Bytes of the stripped image, and of its largest components in memory.
    image_bytes: u64,
    components: Vec<(String, u64)>,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be built or run.
pub fn measure(options: &cli::MeasureVtpm, ui: &Ui) -> anyhow::Result<ExitCode> {
    setup::ensure(ui)?;
    let workspace = Workspace::find()?;
    let built = beside::build(&workspace, ui)?;
    let bed = session::open(&workspace, &options.bed, DOMAINS_MIB, ui)?;
    let mode = options.mode.into();
    ui.step("starting a guest and its vTPM");
    let (mut pair, first) = Pair::start(&bed, &workspace, &built, mode)?;
    let measured = |pair: &Pair<'_>, places: &str| -> anyhow::Result<Value> {
        let words = format!("--windows {} --share {} --json", options.windows, options.share);
        let said = pair.linux(&format!("vtpmd measure {places} {words}"))?;
        serde_json::from_str(&said).context("`vtpmd measure` prints no JSON")
    };
    ui.step("measuring over IDC and over swtpm's socket");
    pair.linux(START_SWTPM_SOCKET)?;
    let idc = measured(&pair, &format!("idc:{} unix:/tmp/swtpm.sock", pair.vtpm))?;
    ui.step("measuring /dev/tpm0 and swtpm behind the same driver");
    let device = pair
        .linux(START_SWTPM)
        .and_then(|number| measured(&pair, &format!("device:/dev/tpm0 device:/dev/tpm{number}")));
    let device = device.unwrap_or_else(|error| json!({ "failed": format!("{error:#}") }));
    ui.step("starting the vTPM, and Linux, again and again");
    let (mut first_answer, mut linux_boot) = (vec![first], Vec::new());
    for _ in 0..options.rounds {
        pair.dom0("$VTPMD instance stop it $DIRS")?;
        first_answer.push(pair.restart("--running")?);
        let began = Instant::now();
        bed.start_linux(&LinuxConfig::new(mode))?.destroy()?;
        linux_boot.push(began.elapsed().as_secs_f64());
    }
    // The first of each brings files into dom0.
    first_answer.remove(0);
    pair.stop()?;
    bed.shutdown()?;
    let file = debug_file(&built.image.path).unwrap_or_else(|| built.image.path.clone());
    let bytes = |s: &Sizes| s.code + s.read_only + s.data + s.zeroed;
    let components = report(&file, None)?
        .groups
        .iter()
        .take(COMPONENTS)
        .map(|(name, s)| (name.clone(), bytes(s)))
        .collect();
    let numbers = Numbers {
        mode,
        idc,
        device,
        memory_mib: MEMORY_MIB,
        first_answer,
        linux_boot,
        image_bytes: built.image.info.file_size,
        components,
    };
    if let Some(path) = &options.out {
        write_records(&numbers, Sink::create(path.clone())?)?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&numbers)?);
    } else {
        print(&numbers);
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows as results for the report of `casemate bench`, in nanoseconds.
fn write_records(numbers: &Numbers, mut sink: Sink) -> anyhow::Result<()> {
    let mode = numbers.mode.to_string();
    for (rows, series) in
        [(&numbers.idc, ["vtpm idc", "swtpm unix"]), (&numbers.device, ["vtpm device", "swtpm device"])]
    {
        for row in rows.as_array().into_iter().flatten() {
            for (name, windows) in series.iter().zip(row["windows"].as_array().into_iter().flatten()) {
                let windows = windows.as_array().into_iter().flatten();
                let mut samples: Vec<f64> = windows.filter_map(Value::as_f64).map(|us| us * 1e3).collect();
                samples.sort_by(f64::total_cmp);
                sink.add(Record {
                    place: "vtpm".to_owned(),
                    mode: mode.clone(),
                    samples,
                    load: load(),
                    command: format!("casemate vtpm measure --mode {mode} --out FILE"),
                    note: row["what"].as_str().unwrap_or_default().to_owned(),
                    ..Record::new("vtpm", name, "ns")
                })?;
            }
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(numbers: &Numbers) {
    let table = |title: &str, rows: &Value| {
        println!("| {title} | vTPM, us | swtpm, us | ratio |\n|---|---:|---:|---:|");
        for row in rows.as_array().into_iter().flatten() {
            let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
            println!(
                "| {} | {:.0} | {:.0} | {:.2} |",
                row["what"].as_str().unwrap_or_default(),
                number("ours"),
                number("theirs"),
                number("ratio")
            );
        }
        if let Some(why) = rows["failed"].as_str() {
            println!("not measured: {why}");
        }
        println!();
    };
    table(&format!("{}: IDC, Unix socket", numbers.mode), &numbers.idc);
    table(&format!("{}: /dev/tpm0, swtpm's", numbers.mode), &numbers.device);
    println!("| {}, medians | |\n|---|---:|", numbers.mode);
    println!("| xl create to the TPM's first answer, s | {:.2} |", median(&numbers.first_answer));
    println!("| xl create to a Linux guest's first answer, s | {:.2} |", median(&numbers.linux_boot));
    println!("| memory of the domain, MiB | {} |", numbers.memory_mib);
    println!("| image, bytes | {} |", numbers.image_bytes);
    for (name, bytes) in &numbers.components {
        println!("| of it {name} | {bytes} |");
    }
}
