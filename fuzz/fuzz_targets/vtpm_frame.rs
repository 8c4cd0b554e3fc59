//! Frames of a vTPM's clients, and its answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vtpm::frame::{Answer, Kind, Request};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::parse(data) {
        assert_eq!(request.to_bytes(), data);
    }
    for kind in Kind::ALL {
        let request = Request { kind, locality: 0, sequence: 1, contents: &[] };
        if let Ok(answer) = Answer::parse(data, &request) {
            assert_eq!(answer.to_bytes(), data);
        }
    }
});
