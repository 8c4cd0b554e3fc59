//! Results of measurements as a file, for those who draw and compare them. The program `idcperf` writes them.
#![forbid(unsafe_code)]

pub mod record;
