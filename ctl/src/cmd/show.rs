//! Prints objects in the requested output format.

use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::target::Target;
use crate::{document, terminal};

/// Prints one object as itself, several as a list.
pub(super) fn objects(
    format: Format,
    named: Vec<(Target, Value)>,
    is_list: bool,
) -> Result<(), Failure> {
    if format == Format::Name {
        let lines: String = named.iter().map(|(target, _)| format!("{target}\n")).collect();
        return terminal::print(&lines);
    }
    let mut objects: Vec<Value> =
        named.into_iter().map(|(_, object)| document::without_noise(object)).collect();
    let object = match objects.pop() {
        Some(only) if !is_list && objects.is_empty() => only,
        last => {
            objects.extend(last);
            document::list(objects)
        }
    };
    match format {
        Format::Json => terminal::print(&document::json_text(&object)?),
        Format::Yaml | Format::Table | Format::Wide | Format::Name => {
            terminal::print(&document::yaml(&object)?)
        }
    }
}

/// Reports what was done to an object, in the requested format. If nobody reads stdout any more,
/// that is no error: the work continues, and the exit code tells its result.
///
/// # Errors
/// It cannot be printed for another reason, such as a full disk. That does not undo what was done:
/// the caller finishes its work first and then fails with this.
pub(super) fn done(
    format: Format,
    target: &Target,
    what: &str,
    object: Value,
) -> Result<(), Failure> {
    match print(format, target, what, object) {
        Err(Failure { code: Code::Unread, .. }) => Ok(()),
        printed => printed,
    }
}

fn print(format: Format, target: &Target, what: &str, object: Value) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => terminal::print_line(&format!("{target} {what}")),
        Format::Name => terminal::print_line(&target.to_string()),
        Format::Json => terminal::print(&document::json_text(&document::without_noise(object))?),
        Format::Yaml => {
            let text = document::yaml(&document::without_noise(object))?;
            terminal::print(&format!("---\n{text}"))
        }
    }
}
