//! Parsers of command line arguments: invalid ones are refused before anything is sent. Pure.

use api::selector::{FieldSelector, LabelSelector};
use api::violation::nearest;
use api::{KindId, names};

use crate::failure::Failure;

/// Parses a namespace.
///
/// # Errors
/// Why no namespace can have this name.
pub fn namespace(text: &str) -> Result<String, String> {
    names::label_problem(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// Parses the name of an object.
///
/// # Errors
/// Why no object can have this name.
pub fn name(text: &str) -> Result<String, String> {
    names::problem(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// Parses a label selector.
///
/// # Errors
/// It is not valid.
pub fn labels(text: &str) -> Result<String, String> {
    let parsed = text.parse::<LabelSelector>();
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses a field selector. Which fields exist depends on the kind and is checked later.
///
/// # Errors
/// It is not valid.
pub fn fields(text: &str) -> Result<String, String> {
    let parsed = text.parse::<FieldSelector>();
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses the number of a run or of an attempt, which count from 1.
///
/// # Errors
/// It is not such a number.
pub fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "write a number, counted from 1".to_owned())
}

/// How many of the last lines to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// All of them.
    All,
    /// This many.
    Last(u64),
}

/// Parses a number of lines. `-1` (as in kubectl) and `all` (as in docker) mean all lines.
///
/// # Errors
/// It is not valid.
pub fn lines(text: &str) -> Result<Lines, String> {
    if matches!(text, "-1" | "all") {
        return Ok(Lines::All);
    }
    let number = text.parse().map_err(|_| "write a number of lines, such as 100, or all")?;
    Ok(Lines::Last(number))
}

/// Parses `KEY=VALUE` of a parameter.
///
/// # Errors
/// It is not valid.
pub fn param(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    match names::variable_problem(key) {
        Some(problem) => Err(problem),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

/// Parses a phase of objects of `kind`, in upper or lower case.
///
/// # Errors
/// Objects of the kind are never in this phase, so it would select nothing for ever.
pub fn phase(kind: KindId, text: &str) -> Result<&'static str, Failure> {
    let (known, plural) = (kind.phases(), kind.info().plural);
    if known.is_empty() {
        return Err(Failure::usage(format!("{plural} have no phase")));
    }
    if let Some(word) = known.iter().find(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(word);
    }
    let short: String = text.chars().take(names::LONG_NAME_CHARS_MAX).collect();
    let failure = Failure::usage(format!("{plural} have no phase {short:?}"));
    Err(failure.hint(match nearest(text, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("their phases are {}", known.join(", ")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_words_of_a_kind_in_any_case() {
        let told = |kind, text| match phase(kind, text) {
            Ok(word) => word.to_owned(),
            Err(failure) => format!("{}; {}", failure.message, failure.hint.unwrap_or_default()),
        };
        assert_eq!(told(KindId::Task, "timedout"), "TimedOut");
        assert_eq!(
            told(KindId::Job, "Faild"),
            "jobs have no phase \"Faild\"; did you mean Failed?"
        );
        assert_eq!(
            told(KindId::Node, "Skipped"),
            "nodes have no phase \"Skipped\"; their phases are Ready, NotReady, Lost, Cordoned, Draining"
        );
        assert_eq!(told(KindId::Lease, "Active"), "leases have no phase; ");
    }
}
