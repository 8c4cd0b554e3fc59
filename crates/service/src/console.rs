//! Console output and input.

use crate::{Errno, sys};
use core::fmt;

/// The domain's console as a [`fmt::Write`].
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        sys::console_write(s.as_bytes());
        Ok(())
    }
}

/// Collects a line, so that the console gets it in one piece.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if self.len == self.text.len() {
                self.flush();
            }
            self.text[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl Line {
    fn flush(&mut self) {
        sys::console_write(&self.text[..self.len]);
        self.len = 0;
    }
}

/// Writes formatted text. Behind [`crate::print!`] and [`crate::println!`].
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; 256], len: 0 };
    // `Line` never fails; a `Display` that does loses its own text only.
    let _ = fmt::Write::write_fmt(&mut line, text);
    line.flush();
}

/// Reads what was typed, at least one byte; waits until `deadline` (see `libos_sys`).
///
/// # Errors
/// `ETIMEDOUT`, or `EIO` when there is no console.
pub fn read(buffer: &mut [u8], deadline: u64) -> Result<usize, Errno> {
    sys::console_read(buffer, deadline)
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
