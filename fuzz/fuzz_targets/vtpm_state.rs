//! The state of a vTPM, as it is when its seal has been opened.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vtpm::state::State;

fuzz_target!(|data: &[u8]| {
    if let Ok(state) = State::parse(data) {
        let bytes = state.to_bytes().expect("what was parsed is not too long");
        // Tags that may be skipped are gone; what is left means the same.
        let again = State::parse(&bytes).and_then(|state| state.to_bytes()).expect("it was written by us");
        assert_eq!(again.as_slice(), bytes.as_slice());
    }
});
