//! Domain images: how they are made and what makes them fit to boot.

pub mod build;
pub mod check;
pub mod sample;
