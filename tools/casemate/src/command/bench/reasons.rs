//! Why goals were missed: the part of the report that no program can write. Keep it true to the results that the report
//! in the tree was made from.

/// What the results cannot say, for the end of the table.
pub const NOT_HERE: &str = "\
Not measured here: the smallest memory a domain runs in, and the time from source to console (`casemate measure`); the
time from `xl create` to the first answer (`casemate demo`); the layout of libxenvchan between two processes.
";

/// Reasons by a part of the goal.
const REASONS: [(&str, &str); 0] = [];

/// The reason for a goal that was missed.
pub fn of(goal: &str) -> &'static str {
    let found = REASONS.iter().find(|(part, _)| goal.contains(part));
    found.map_or("For some no reason is known yet.", |(_, reason)| reason)
}
