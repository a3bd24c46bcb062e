//! Nodes: which are lost, and what becomes of their tasks.

pub mod plan;
#[cfg(test)]
mod tests;
