//! The query of a request: names and values, within bounds.

/// Longest query, in bytes: 60 KiB. That holds the longest command with every character escaped.
pub const QUERY_BYTES_MAX: usize = 60 * 1024;
/// Most parameters of a query: the words of the longest command, and some more.
pub const PARAMETERS_MAX: usize = crate::exec::COMMAND_WORDS_MAX + 32;

/// Why a query was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The query exceeds a bound.
    #[error("the query has {is} {what}; at most {max} are allowed")]
    TooLong {
        /// Its size or number.
        is: usize,
        /// The unit of that number.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The value of this parameter cannot be decoded as text.
    #[error("{0}: cannot decode the value; write it percent-encoded, in UTF-8")]
    Unreadable(String),
    /// This parameter may be given once and was given twice.
    #[error("{0} is given more than once")]
    Repeated(&'static str),
}

/// The parameters of a query, decoded, in order. A parameter without `=` has an empty value.
///
/// # Errors
/// The query exceeds a bound, or is not text.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, QueryError> {
    let too_long = |is, what, max| Err(QueryError::TooLong { is, what, max });
    if query.len() > QUERY_BYTES_MAX {
        return too_long(query.len(), "bytes", QUERY_BYTES_MAX);
    }
    let parts = || query.split('&').filter(|part| !part.is_empty());
    let count = parts().count();
    if count > PARAMETERS_MAX {
        return too_long(count, "parameters", PARAMETERS_MAX);
    }
    parts()
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let unreadable = || QueryError::Unreadable(name.chars().take(100).collect());
            Ok((decoded(name).ok_or_else(unreadable)?, decoded(value).ok_or_else(unreadable)?))
        })
        .collect()
}

/// Decodes a name or value of a form, in which `+` means a space.
fn decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

/// Decodes percent-encoded text; nothing if the encoding is broken or the result is not UTF-8.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_in_order() {
        let read = pairs("a=1&b=%26%3D+x%C3%A4&&c&a=2=3").unwrap();
        let wanted = [("a", "1"), ("b", "&= xä"), ("c", ""), ("a", "2=3")];
        assert_eq!(read, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(pairs(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_text_is_named() {
        for bad in ["limit=%", "limit=%2", "limit=%zz", "limit=%ff", "limit=%+1"] {
            assert_eq!(pairs(bad), Err(QueryError::Unreadable("limit".to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_query_is_bounded() {
        let long = format!("kinds={}", "tasks,".repeat(11_000));
        let why = "the query has 66006 bytes; at most 61440 are allowed";
        assert_eq!(pairs(&long).unwrap_err().to_string(), why);
        let many = "a=1&".repeat(PARAMETERS_MAX + 1);
        let why = "the query has 289 parameters; at most 288 are allowed";
        assert_eq!(pairs(&many).unwrap_err().to_string(), why);
        assert!(pairs(&"a=1&".repeat(PARAMETERS_MAX)).is_ok());
    }
}
