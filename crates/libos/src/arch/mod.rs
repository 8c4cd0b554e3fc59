//! What depends on the processor, and the one cell type that the rest of the kernel keeps state in.

pub mod cell;
pub mod x86_64;
