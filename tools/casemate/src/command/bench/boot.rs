//! What has no second half: cycles of boot, sizes of images, lines of code.

use std::collections::BTreeMap;

use anyhow::Context;
use idcperf::record::{Record, load};
use testbed::{TestBed, proto::Mode};

use super::{Sink, plan::Effort};
use crate::{
    command::{build::build_packages, measure},
    image::finish::Image,
    linked,
    ui::Ui,
    workspace::Workspace,
};

/// Sizes of memory at which boot is measured, in MiB.
const SIZES: [u32; 7] = [4, 8, 16, 32, 64, 128, 256];

/// Images whose size is reported.
const IMAGES: [&str; 5] = ["hello", "echo", "digest", "vchan-echo", "bench-peer"];

const COMMAND: &str = "casemate bench --only boot";

/// Cycles from the first instruction of the image to the application, as the image counts them.
///
/// # Errors
/// When a domain does not run.
pub fn cycles(
    bed: &TestBed,
    images: &[Image],
    effort: Effort,
    sink: &mut Sink,
    ui: &Ui,
) -> anyhow::Result<()> {
    let image = images.iter().find(|i| i.name == measure::BOOT).context("there is no image for boot")?;
    let (rounds, sizes) = match effort {
        Effort::Quick => (2, &SIZES[..1]),
        Effort::Full => (9, &SIZES[..]),
    };
    let bar = ui.bar(rounds * sizes.len() as u64 * 2, "boots");
    let mut found: BTreeMap<(&str, u32), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for size in sizes {
            for (name, mode) in [("pv", Mode::Pv), ("pvh", Mode::Pvh)] {
                found
                    .entry((name, *size))
                    .or_default()
                    .push(measure::boot_cycles(bed, image, mode, *size)? as f64);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    for ((mode, size), mut samples) in found {
        samples.sort_by(f64::total_cmp);
        sink.add(Record {
            mode: mode.to_owned(),
            memory_mib: Some(size.into()),
            samples,
            load: load(),
            command: COMMAND.to_owned(),
            ..Record::new("boot", "casemate", "cycles")
        })?;
    }
    Ok(())
}

/// Bytes of stripped images, the lines of source in them, and all lines of each crate, with those that say `unsafe`.
///
/// # Errors
/// When something cannot be built or read.
pub fn sizes(workspace: &Workspace, sink: &mut Sink, ui: &Ui) -> anyhow::Result<()> {
    let of = |test: &str, name: &str, unit: &str, value: f64| Record {
        samples: vec![value],
        command: "casemate bench --only size".to_owned(),
        ..Record::new(test, name, unit)
    };
    for image in build_packages(workspace, &[], ui)? {
        // Most others are the images of single tests.
        if !IMAGES.contains(&image.name.as_str()) {
            continue;
        }
        sink.add(of("size", &image.name, "bytes", image.stripped_size() as f64))?;
        let linked = linked::count(&workspace.root, &image.debug)?;
        sink.add(of("linked", &image.name, "lines", linked.code as f64))?;
        sink.add(of("linked-unsafe", &image.name, "lines", linked.with_unsafe as f64))?;
        sink.add(of("linked-unsafe-files", &image.name, "files", linked.unsafe_files as f64))?;
    }
    let mut lines = BTreeMap::new();
    measure::count_lines(&workspace.root, &mut lines)?;
    for (name, (code, with_unsafe)) in lines {
        sink.add(of("lines", &name, "lines", code as f64))?;
        sink.add(of("unsafe", &name, "lines", with_unsafe as f64))?;
    }
    Ok(())
}
