//! What arguments may be, checked before anything is sent. Pure.

use api::selector::{FieldSelector, LabelSelector};
use api::violation::nearest;
use api::{KindId, names};

use crate::failure::Failure;

/// A namespace.
///
/// # Errors
/// Why there can be none of this name.
pub fn namespace(text: &str) -> Result<String, String> {
    names::label_problem(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// The name of an object of ours.
///
/// # Errors
/// Why there can be none of this name.
pub fn name(text: &str) -> Result<String, String> {
    names::problem(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// A selector of labels.
///
/// # Errors
/// That it is none.
pub fn labels(text: &str) -> Result<String, String> {
    let parsed = text.parse::<LabelSelector>();
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A selector of fields; which there are depends on the kind.
///
/// # Errors
/// That it is none.
pub fn fields(text: &str) -> Result<String, String> {
    let parsed = text.parse::<FieldSelector>();
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The number of a run or of an attempt, which count from 1.
///
/// # Errors
/// That it is none.
pub fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "write a number, counted from 1".to_owned())
}

/// How many of the last lines are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// All of them.
    All,
    /// So many.
    Last(u64),
}

/// A number of lines; `-1`, as in kubectl, and `all`, as in docker, are all.
///
/// # Errors
/// That it is none.
pub fn lines(text: &str) -> Result<Lines, String> {
    if matches!(text, "-1" | "all") {
        return Ok(Lines::All);
    }
    let number = text.parse().map_err(|_| "write a number of lines, such as 100, or all")?;
    Ok(Lines::Last(number))
}

/// `KEY=VALUE` of a parameter.
///
/// # Errors
/// That it is none.
pub fn param(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    match names::variable_problem(key) {
        Some(problem) => Err(problem),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

/// The phase of objects of `kind` that a person means, in any case of its letters.
///
/// # Errors
/// A phase that they are never in would select nothing for ever.
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
            "nodes have no phase \"Skipped\"; their phases are Ready, NotReady, Lost, Cordoned"
        );
        assert_eq!(told(KindId::Lease, "Active"), "leases have no phase; ");
    }
}
