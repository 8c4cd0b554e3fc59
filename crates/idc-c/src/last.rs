//! Each thread's last error.

use idc::Error;

/// Remembers the error of this thread.
#[cfg(not(casemate))]
mod place {
    use super::Error;
    use std::cell::Cell;

    std::thread_local! {
        static LAST: Cell<Option<Error>> = const { Cell::new(None) };
    }

    pub fn set(error: Option<Error>) {
        // While a thread ends there may be no place; then nobody can ask either.
        let _ = LAST.try_with(|last| last.set(error));
    }

    pub fn get() -> Option<Error> {
        LAST.try_with(Cell::get).unwrap_or_default()
    }
}

#[cfg(casemate)]
use crate::runtime as place;

pub fn set(error: Option<Error>) {
    place::set(error);
}

pub fn get() -> Option<Error> {
    place::get()
}
