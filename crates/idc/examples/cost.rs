//! Sends and receives short messages in one thread, for a profiler to count the instructions of one:
//!
//! ```text
//! cargo build --release -p casemate-idc --features rustix/use-libc --example cost
//! valgrind --tool=callgrind target/release/examples/cost 100000
//! ```
//! (Without `use-libc`, rustix looks for the vDSO where valgrind has none.) The difference between two numbers of messages
//! is what they cost.

use idc::platform::hosted::Hosted;
use idc::{Config, DomId, HostedConfig, Idc};

/// Messages under way at once; they fit into the ring.
const BATCH: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: usize = std::env::args().nth(1).ok_or("how many messages?")?.parse()?;
    let folder = tempfile::tempdir()?;
    let open = |domid| Hosted::new(HostedConfig::new(domid).directory(folder.path())).map(Idc::with_platform);
    let (here, there) = (DomId(1), DomId(2));
    let (writing, reading) = (open(here)?, open(there)?);
    let (mut writer, gref) = writing.create(there, &Config::default())?;
    let mut reader = reading.connect(here, gref)?;
    let mut buf = [0; 16];
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            writer.send(&[7; 16])?;
        }
        for _ in 0..BATCH {
            reader.recv_into(&mut buf)?;
        }
    }
    Ok(())
}
