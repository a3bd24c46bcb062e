//! What arguments may be, checked before anything is sent. Pure.

use api::names;
use api::selector::{FieldSelector, LabelSelector};

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
