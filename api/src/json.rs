//! Reads JSON from outside into our types. An error names the field that is wrong and what was
//! expected, in the words of our violations: serde's own messages name Rust types and no field.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Most characters of a parser's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 500;

/// Reads a document.
///
/// # Errors
/// What is wrong, as a fragment that reads on after a colon: `preconditions.uid: expected text, found a
/// list`.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| problem::<T>(bytes, &error))
}

/// Says what is wrong with a document that could not be read. It reads the document a second time
/// to find the field, so that documents that are correct cost nothing more.
fn problem<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = words_of(error);
    match error.classify() {
        Category::Eof => format!("the JSON ends too early, at line {line} column {column}"),
        Category::Syntax | Category::Io => {
            format!("not valid JSON at line {line} column {column}: {text}")
        }
        Category::Data => {
            let mut document = serde_json::Deserializer::from_slice(bytes);
            let again = serde_path_to_error::deserialize::<_, T>(&mut document).err();
            let path = again.map(|error| error.path().to_string()).unwrap_or_default();
            let path = if path == "." { String::new() } else { path };
            said_of(&path, &text)
        }
    }
}

/// The parser's message without its line and column, which are told apart from it.
fn words_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The message for an error at a path of the document.
fn said_of(path: &str, text: &str) -> String {
    let under = |field: &str| {
        // The parser's path may or may not include the field that the message is about.
        let is_there = path == field || path.ends_with(&format!(".{field}"));
        let parent = if is_there { path.strip_suffix(field).unwrap_or_default() } else { path };
        let parent = parent.trim_end_matches('.');
        if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
    };
    let at = |why: String| if path.is_empty() { why } else { format!("{path}: {why}") };
    if let Some(name) = text.strip_prefix("missing field ") {
        return format!("{}: required", under(name.trim_matches('`')));
    }
    if let Some((name, known)) = named(text, "unknown field ") {
        return format!("{}: unknown field{}", under(name), hint(known));
    }
    if let Some((name, known)) = named(text, "unknown variant ") {
        return at(format!("unknown word {name:?}{}", hint(known)));
    }
    // serde accepts a list in the place of a struct, and complains about its length.
    if text.starts_with("invalid length ") && text.contains("struct ") {
        return at("expected an object, found a list".to_owned());
    }
    for prefix in ["invalid type: ", "invalid value: "] {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        if let Some((found, expected)) = rest.rsplit_once(", expected ") {
            return at(format!("expected {}, found {}", wanted(expected), seen(found)));
        }
    }
    at(text.to_owned())
}

/// The name that a message is about, and the names that were expected.
fn named<'a>(text: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(prefix)?.strip_prefix('`')?;
    rest.split_once('`')
}

fn hint(known: &str) -> String {
    let known = known.trim_start_matches(", expected ").trim_start_matches("one of ");
    let known = known.replace('`', "");
    if known.is_empty() || known.starts_with(", there are no") {
        return String::new();
    }
    format!(" (write one of {})", known.replace(" or ", ", "))
}

/// The expected type, in our words.
fn wanted(expected: &str) -> &str {
    match expected {
        "a string" | "string" | "a borrowed string" => "text",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.contains("enum ") => "one of the words for it",
        other => other,
    }
}

/// The type that was found, in our words.
fn seen(found: &str) -> String {
    match found {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit value" | "unit" | "Option value" => "null".to_owned(),
        other => match other.split_once(' ') {
            Some(("string", text)) => format!("text {text}"),
            Some(("boolean", value)) => value.trim_matches('`').to_owned(),
            Some(("integer", number)) => number.trim_matches('`').to_owned(),
            Some(("floating", rest)) => rest.trim_start_matches("point ").replace('`', ""),
            _ => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Body {
        node: String,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Inner {
        on: bool,
    }

    #[derive(Debug, Deserialize)]
    enum Word {
        Small,
        Large,
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field_and_in_our_words() {
        for (body, said) in [
            (r#"{"node":{}}"#, "node: expected text, found an object"),
            (
                r#"{"node":"a","count":"3"}"#,
                "count: expected a whole number of at least 0, found text \"3\"",
            ),
            (
                r#"{"node":"a","count":-1}"#,
                "count: expected a whole number of at least 0, found -1",
            ),
            (r#"{"node":null}"#, "node: expected text, found null"),
            (r#"{"count":1}"#, "node: required"),
            (r#"{"node":"a","inner":[{"on":true},{}]}"#, "inner[1].on: required"),
            (
                r#"{"node":"a","inner":[{"on":1.5}]}"#,
                "inner[0].on: expected true or false, found 1.5",
            ),
            (r#"{"node":"a","inner":{}}"#, "inner: expected a list, found an object"),
            (
                r#"{"node":"a","nodes":1}"#,
                "nodes: unknown field (write one of node, count, inner, word)",
            ),
            (
                r#"{"node":"a","word":"Huge"}"#,
                "word: unknown word \"Huge\" (write one of Small, Large)",
            ),
            ("[]", "expected an object, found a list"),
            ("7", "expected an object, found 7"),
            (r#"{"node":"#, "the JSON ends too early, at line 1 column 8"),
            (r#"{"node":]"#, "not valid JSON at line 1 column 9: expected value"),
        ] {
            assert_eq!(read::<Body>(body.as_bytes()).unwrap_err(), said, "{body}");
        }
        assert!(read::<Body>(br#"{"node":"a","word":"Small"}"#).is_ok());
    }
}
