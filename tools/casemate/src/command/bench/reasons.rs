//! Why goals were missed: the part of the report that no program can write. Keep it true to the results that the report
//! in the tree was made from.

/// What the results cannot say, for the end of the table.
pub const NOT_HERE: &str = "\
Not measured here: the smallest memory a domain runs in, and the time from source to console (`casemate measure`); the
time from `xl create` to the first answer (`casemate demo`); the layout of libxenvchan between two processes.
";

/// Reasons by parts of the goal, all of which have to be in it; the first that fits counts.
const REASONS: [(&[&str], &str); 9] = [
    (
        &["round trip of 16 B: ", "TCP"],
        "Round trip between domains: each side has one processor, so neither spins, and each message costs an event and a \
         sleep on either side, as many as with libxenvchan, which is faster. Reading the code (it was not profiled): a wake-up \
         through IDC in Linux is `poll`, `read` and a `write` to unmask, with looks at the clock in between, where libxenvchan \
         makes one blocking `read` and the `write`; system calls are dear in an emulated PV guest. Fewer of them for a sleep is \
         what to try.",
    ),
    (
        &["64 KiB ring", "libxenvchan", "one way"],
        "Against libxenvchan with the same ring of 64 KiB: it sleeps more often in its ring from some kilobytes on (see the counts), \
         because a writer that finds it full waits for a quarter of it, and a sleep is dearer than libxenvchan's (see round \
         trips). Between two Linux domains the default ring of 256 KiB is faster than libxenvchan's 64 KiB at every size. Against a \
         library-OS domain the other end of that vchan is this project's `idc::vchan`, and up to 256 B it is as fast as IDC.",
    ),
    (
        &["64 KiB one way", "TCP"],
        "64 KiB against TCP: at this size IDC sleeps about every other message (see the counts), and the copies, which both \
         make, dominate under emulation. Not profiled.",
    ),
    (
        &["both directions"],
        "Directions: the code and the counts of events are the same in both. dom0 shares its processor with xenstored, the backends \
         and the test bed's agent, so the two sides are not equally fast; how much of the difference is that and how much the \
         other work on the machine (see the load) is not known.",
    ),
    (
        &["no hypercall"],
        "Hypercalls while both are active: the reader catches up with the writer and has to be woken. With one processor each, IDC \
         does not spin, by design.",
    ),
    (
        &["two Linux processes", "both asleep"],
        "Both asleep: two wake-ups are nearly all of it, and they depend on what else the machine does.",
    ),
    (
        &["two Linux processes"],
        "Between processes: both need a processor at the same time to be fast, and the machine had far more work than processors \
         when this was measured (see the load).",
    ),
    (
        &["entry to main"],
        "Entry to main: nine boots at each size were not enough to meet one that other work on the machine did not slow down; there \
         is no growth with memory.",
    ),
    (
        &["1,000 channels"],
        "Channels at once: this figure stops earlier; 1,000 between two domains are opened by `casemate test --full --only \
         channels-at-once`.",
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
