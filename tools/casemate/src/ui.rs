//! What the person sees: steps, progress, warnings and errors on standard error. Results go to standard output
//! and are printed by the commands.

use std::{io::IsTerminal, time::Duration};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How to talk.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    quiet: bool,
    terminal: bool,
}

impl Ui {
    /// Talks on standard error; bars and colours only when that is a terminal.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal() }
    }

    /// A step of longer work begins, or a fact worth a line.
    pub fn step(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{} {}", style("casemate:").for_stderr().green().bold(), text.as_ref());
        }
    }

    /// Something is not as it should be, but work goes on.
    pub fn warn(&self, text: impl AsRef<str>) {
        eprintln!("{} {}", style("casemate: warning:").for_stderr().yellow().bold(), text.as_ref());
    }

    /// The end, with the reasons behind it.
    pub fn error(&self, error: &anyhow::Error) {
        eprintln!("{} {}", style("casemate: error:").for_stderr().red().bold(), text_of(error));
    }

    /// A bar for work of unknown length; without a terminal, one line of text.
    pub fn spinner(&self, text: impl Into<String>) -> ProgressBar {
        let text = text.into();
        if self.quiet {
            return ProgressBar::hidden();
        }
        if !self.terminal {
            self.step(&text);
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(text);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// A bar for a known number of things; without a terminal, one line of text.
    pub fn bar(&self, total: u64, text: impl Into<String>) -> ProgressBar {
        let bar = self.spinner(text);
        if let (false, Ok(style)) =
            (bar.is_hidden(), ProgressStyle::with_template("{bar:30.green} {pos}/{len} {msg} ({elapsed})"))
        {
            bar.set_style(style);
        }
        bar.set_length(total);
        bar
    }
}

/// An error and its causes in one text, without saying the same twice.
pub fn text_of(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
