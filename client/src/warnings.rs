//! Warnings in a server's successful answers: `Warning: 299 - "..."`, as Kubernetes sends them.

use http::{HeaderMap, header};

/// Longest warning that is passed on, in characters.
const WARNING_CHARS_MAX: usize = 1024;

/// The texts of an answer's warnings. Headers in another form are ignored.
pub(crate) fn texts(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(header::WARNING).into_iter();
    values.filter_map(|value| text(value.to_str().ok()?))
}

fn text(value: &str) -> Option<String> {
    let (_code, rest) = value.split_once(' ')?;
    let (_agent, rest) = rest.split_once(' ')?;
    let quoted = rest.trim().strip_prefix('"')?;
    let (mut text, mut escaped) = (String::new(), false);
    for c in quoted.chars().take(WARNING_CHARS_MAX) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some(text),
            // Control characters from a server must not reach a terminal.
            c if c.is_control() => escaped = false,
            c => {
                text.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_the_text_between_the_quotes() {
        assert_eq!(text(r#"299 - "node n9 does not exist""#).unwrap(), "node n9 does not exist");
        assert_eq!(text(r#"299 - "say \"a\\b\"" "a date""#).unwrap(), r#"say "a\b""#);
        for odd in ["", "299", "299 -", "299 - unquoted", r#"299 - "open"#] {
            assert_eq!(text(odd), None, "{odd}");
        }
    }
}
