//! Domain images: how they are made and what makes them fit to boot.

pub mod build;
pub mod check;
pub mod finish;
pub mod make;
pub mod program;
pub mod sample;
