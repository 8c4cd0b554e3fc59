//! Why goals were missed: the part of the report that no program can write. Keep it true to the results that the report
//! in the tree was made from.

/// What the results cannot say, for the end of the table.
pub const NOT_HERE: &str = "\
Not measured here: the smallest memory a domain runs in, and the time from source to console (`casemate measure`); the
time from `xl create` to the first answer (`casemate demo`); the layout of libxenvchan between two processes.
";

/// Reasons by parts of the goal, all of which have to be in it; the first that fits counts.
const REASONS: [(&[&str], &str); 10] = [
    (
        &["round trip of 16 B: ", "TCP"],
        "Round trip between domains: both sides have one processor, so neither spins, and each message costs an event and a \
         sleep on each side. In Linux a wake-up through IDC is three system calls (`poll`, `read`, and `write` to unmask) and \
         some looks at the clock, where libxenvchan makes two (a blocking `read`, and `write`); a system call is dear in an \
         emulated PV guest. Fewer system calls for each sleep is the way to go.",
    ),
    (
        &["64 KiB ring", "libxenvchan", "one way"],
        "Against libxenvchan with the same ring of 64 KiB: small messages profit from one cache line for each message, but a \
         writer that finds the ring full sleeps until a quarter of it is free, and every sleep is dearer than libxenvchan's (see \
         round trips). So from some kilobytes on, where each side sleeps often, a ring of 64 KiB is slower than libxenvchan. \
         With IDC's own default of 256 KiB it is several times faster.",
    ),
    (
        &["both directions"],
        "Directions: the code is the same in both, and so are the counts of events. dom0 shares its processor with xenstored, the \
         backends and the test bed's agent, and the two emulated processors were not left alone by other work on the machine, \
         so a difference of more than 5 % between two windows is usual; at the large sizes a different number of sleeps \
         multiplies it.",
    ),
    (
        &["no hypercall"],
        "Hypercalls while both are active: what is left comes from the reader catching up with the writer, which then has to wake \
         it. With one processor each, IDC does not spin, by design.",
    ),
    (
        &["two Linux processes", "64 KiB", "bare copy"],
        "64 KiB against the bare copy: the copy spins and hands over whole blocks, while IDC cuts messages longer than 16 KiB so \
         that both sides copy at once; on a machine with other work one of the two is often not running.",
    ),
    (
        &["two Linux processes", "both asleep"],
        "Both asleep: two wake-ups are nearly all of it, and they depend on what else the machine does; the bar in the table \
         above is 5 %.",
    ),
    (
        &["two Linux processes", "iceoryx2"],
        "iceoryx2: here it polls, which is its fastest way and no longer able to sleep; IDC can.",
    ),
    (
        &["two Linux processes"],
        "Between processes: both need a processor at the same time to be fast, and the machine had more work than processors when \
         this was measured (see the load).",
    ),
    (
        &["flat from 4"],
        "Entry to main: the least of the rounds is flat; single boots were slowed down by other work on the machine.",
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
        assert!(
            of("two Linux processes, 64 KiB one way: IDC at least 0.9x as fast as bare copy")
                .starts_with("64 KiB")
        );
        assert!(of("two Linux processes, 4 KiB one way").starts_with("Between processes"));
        assert!(of("something new").contains("no reason"));
    }
}
