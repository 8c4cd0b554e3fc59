//! Why goals were missed: the part of the report that no program can write. Keep it true to the results that the report
//! in the tree was made from.

/// What the results cannot say, for the end of the table.
pub const NOT_HERE: &str = "\
Not measured here: the smallest memory a domain runs in, and the time from source to console (`casemate measure`); the
time from `xl create` to the first answer (`casemate demo`); the layout of libxenvchan between two processes.

Round trips, latencies and numbers of messages between domains, and streams with a Linux guest, are of a run in which sizes were
still measured one after the other; rings, and streams with a library-OS domain, are of runs in which they took turns. How far
apart the host has put the two processors makes a factor of 2 to 3 from 4 KiB on, and changes within minutes.
";

/// Reasons by parts of the goal, all of which have to be in it; the first that fits counts.
const REASONS: [(&[&str], &str); 7] = [
    (
        &["library-OS domain", "16 to 512 B", "libxenvchan"],
        "Small messages to a library-OS domain: neither side sleeps (see the counts), so this is the work for each message, every \
         instruction of it emulated: 225 for 16 bytes in both halves. The far end of that vchan is this project's `idc::vchan`, \
         which takes up to 64 KiB of a stream in one call; IDC keeps messages apart, checks and copies each, and has a fence for \
         each. Where the domain sends, message by message with either, IDC is 3.0 times as fast at 16 B and 2.2 at 64.",
    ),
    (
        &["16 to 512 B", "libxenvchan"],
        "Small messages against libxenvchan: from 64 B on, and by the medians at all sizes, it is more than 3 times as fast; at 16 B \
         (2.8 times by the least) neither side sleeps, and what is left is the work for each message, all of it emulated: 225 \
         instructions, writer and reader together (`crates/idc/examples/cost.rs` under callgrind; it was 551), the fence that a \
         sleeping reader makes necessary among them.",
    ),
    (
        &["both directions"],
        "Directions (measured in turns): between dom0 and a Linux guest the two are within some percent, TCP apart; what goes beyond \
         that differs from run to run. A library-OS domain as the writer takes 1.4 times as long as dom0 at 16 B and 1.1 to 1.3 times at \
         64 to 512 (it was 1.8 and 1.1 to 1.6); from 1 KiB on it is nearly even. `perf record -e cpu-clock` on QEMU's two processors shows why: the loop that sends in \
         Linux has everything inlined, an image is built for size and calls a function for each message, and QEMU looks for its \
         translation at each call to another page and each return (11 % of the samples of the domain's processor, before the copy and \
         the flush became part of that function; below 1 % in dom0). The rest was registers of 16 bytes, which QEMU keeps in memory in \
         halves: reading one back waits for all stores before it.",
    ),
    (
        &["two Linux processes", "both asleep"],
        "Both asleep: two wake-ups are nearly all of it, and they depend on what else the machine does.",
    ),
    (
        &["two Linux processes"],
        "Between processes: the writer has to take each cache line back from the reader before it can store, and the reader then waits \
         for the writer. How long depends on where the host has put the two processors, and changes while it runs: a round trip \
         of the bare copy took 200 or above 600 ns, bulk data 8.5 or 2.3 GB/s, whatever instruction copied and wherever payloads began. \
         So 4 KiB and more are written past the cache (in turns with the version before, processors far apart: 1,905 to 512 ns for 4 KiB, \
         28.9 to 5.3 us for 64 KiB). Of 24-byte records 2.67 share a line, and that line's way is nearly all of a small message. \
         64 KiB against Unix sockets is 2.1 times by the medians; there IDC is at 0.94 of a bare copy.",
    ),
    (
        &["trusted lines with IDC"],
        "Trusted lines (`casemate size target/images/echo --source` lists them by file): IDC is some 3,300 of them, with slots and \
         pools, which are linked into every service since the other side may ask for them; xenstore is some 900: 236 in the kernel, \
         394 of its codec, 288 in IDC.",
    ),
    (
        &["`unsafe`"],
        "Files with `unsafe`: shared memory, hypercalls, page tables, stacks and traps are each in a file of their own, of PV and of PVH \
         their own, with two to twenty lines that say it (`casemate size target/images/hello --source`). Fewer files would be longer \
         ones; they would not be less to read.",
    ),
];

/// The reason for a goal that was missed.
pub fn of(goal: &str) -> &'static str {
    let found = REASONS.iter().find(|(parts, _)| parts.iter().all(|part| goal.contains(part)));
    found.map_or("For some no reason is known yet.", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closer_reason_counts() {
        assert!(of("two Linux processes, round trip, both asleep").starts_with("Both asleep"));
        assert!(of("two Linux processes, 4 KiB one way").starts_with("Between processes"));
        assert!(of("something new").contains("no reason"));
    }
}
