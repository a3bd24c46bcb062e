//! Runs of workflows: jobs in the order of their dependencies.

pub mod plan;
#[cfg(test)]
mod tests;
