//! Parses `$(...)` in texts.

/// The roots of Heliox's names. Anything else in `$(...)` is either a variable or not for Heliox.
pub(super) const ROOTS: [&str; 7] =
    ["params", "run", "task", "node", "ports", "jobs", "transition"];

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text without a meaning.
    Text(&'a str),
    /// `$$(`: a literal `$(`.
    Escaped,
    /// A name under one of our roots.
    Ours(Reference<'a>),
    /// `$(NAME)`, which may be an environment variable.
    Variable {
        /// The whole piece.
        whole: &'a str,
        /// The name.
        name: &'a str,
    },
}

/// A name under one of our roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// The whole piece: `$(task.item.path)`.
    pub(super) whole: &'a str,
    /// The root: `task`.
    pub(super) root: &'a str,
    /// What follows: `item`, `path`.
    pub(super) names: Vec<&'a str>,
}

/// Splits a text into pieces, in order.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut plain_from, mut at) = (0, 0);
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        let rest = &text[dollar..];
        let (piece, len) = if rest.starts_with("$$(") {
            (Some(Piece::Escaped), 3)
        } else {
            named(rest).map_or((None, 1), |(piece, len)| (Some(piece), len))
        };
        at = dollar + len;
        if let Some(piece) = piece {
            if plain_from < dollar {
                pieces.push(Piece::Text(&text[plain_from..dollar]));
            }
            pieces.push(piece);
            plain_from = at;
        }
    }
    if plain_from < text.len() {
        pieces.push(Piece::Text(&text[plain_from..]));
    }
    pieces
}

/// The name in a `$(...)` at the beginning of `text`, and the length of the whole.
fn named(text: &str) -> Option<(Piece<'_>, usize)> {
    let inner = text.strip_prefix("$(")?;
    let inner = &inner[..inner.find(')')?];
    let whole = &text[..inner.len() + 3];
    let root_len = inner.find(['.', '[']).unwrap_or(inner.len());
    let (root, rest) = inner.split_at(root_len);
    if ROOTS.contains(&root)
        && !rest.is_empty()
        && let Some(names) = steps(rest)
    {
        return Some((Piece::Ours(Reference { whole, root, names }), whole.len()));
    }
    crate::names::variable_problem(inner)
        .is_none()
        .then_some((Piece::Variable { whole, name: inner }, whole.len()))
}

/// Parses `.name` and `['name']`, one after the other.
fn steps(mut rest: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']")?;
            (name, rest) = (&after[..end], &after[end + 2..]);
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (name, rest) = after.split_at(end);
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if !name.chars().all(legal) {
                return None;
            }
        }
        if name.is_empty() {
            return None;
        }
        names.push(name);
    }
    Some(names)
}
