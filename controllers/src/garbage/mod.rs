//! Garbage: what goes because its owner has gone or is going.

pub mod plan;
#[cfg(test)]
mod tests;
