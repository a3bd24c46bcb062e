//! Jobs: sets of tasks that complete.

#[cfg(test)]
mod model;
pub mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
