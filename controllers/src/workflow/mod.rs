//! Workflows: each new revision is run once, and old runs go.

pub mod plan;
#[cfg(test)]
mod tests;
