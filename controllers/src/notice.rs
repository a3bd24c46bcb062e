//! What a controller tells people about an object: an event, before it is written.

/// Something that people who look at an object should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong, so that somebody may want to act.
    pub warning: bool,
    /// The reason, in one CamelCase word.
    pub reason: &'static str,
    /// The message, a sentence.
    pub message: String,
}
