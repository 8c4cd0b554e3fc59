//! `casemate-check [--kernel NAME] IMAGE...`: the post-link check as a program, for the `ld` wrapper.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sdk::check::main(std::env::args().skip(1)))
}
