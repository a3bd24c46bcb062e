//! Names: which are legal, and how the names of objects that Heliox makes are built.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Longest name of an object, in characters.
pub const NAME_CHARS_MAX: usize = 63;
/// Longest name of an object of Kubernetes' own kinds, in characters.
pub const LONG_NAME_CHARS_MAX: usize = 253;
/// Length of the hash at the end of a name, in characters.
pub const HASH_CHARS: usize = 10;

/// Why `name` cannot be the name of an object; nothing if it can. Names are DNS labels or
/// subdomains in lower case (RFC 1123), so that a name is never a path, a flag or something special
/// to a shell.
pub fn problem(name: &str) -> Option<String> {
    problem_within(name, NAME_CHARS_MAX)
}

/// The same for an object of Kubernetes' own kinds, whose names other programs make.
pub fn long_problem(name: &str) -> Option<String> {
    problem_within(name, LONG_NAME_CHARS_MAX)
}

/// The same for what must be a single DNS label: a namespace, a job in a workflow, a port.
pub fn label_problem(name: &str) -> Option<String> {
    if name.contains('.') {
        return Some("'.' is not allowed; use a-z, 0-9 and '-'".to_owned());
    }
    problem(name).map(|problem| problem.replace(", '-' and '.'", " and '-'"))
}

/// Why `name` cannot be the name of a parameter or an environment variable; nothing if it can: a
/// letter or underscore, then letters, digits, '_', '-' and '.'.
pub fn variable_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name is required".to_owned());
    }
    if name.len() > LONG_NAME_CHARS_MAX {
        return Some(format!(
            "{} characters; at most {LONG_NAME_CHARS_MAX} are allowed",
            name.len()
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(bad) = name.chars().find(|c| !legal(*c)) {
        return Some(format!("{bad:?} is not allowed; use letters, digits, '_', '-' and '.'"));
    }
    (!name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        .then(|| "it must start with a letter or '_'".to_owned())
}

fn problem_within(name: &str, chars_max: usize) -> Option<String> {
    if name.is_empty() {
        return Some("a name is required".to_owned());
    }
    if name.len() > chars_max {
        return Some(format!("{} characters; at most {chars_max} are allowed", name.len()));
    }
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if let Some(bad) = name.chars().find(|c| !legal(*c)) {
        return Some(format!("{bad:?} is not allowed; use a-z, 0-9, '-' and '.'"));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.split('.').any(|part| !edge(part.chars().next()) || !edge(part.chars().next_back())) {
        return Some("it must start and end with a letter or digit".to_owned());
    }
    None
}

/// `whole` if it is short enough, else its beginning and a hash of all of it, so that two long
/// names stay different.
pub fn bounded(whole: &str) -> String {
    if whole.len() <= NAME_CHARS_MAX {
        return whole.to_owned();
    }
    let kept: String = whole.chars().take(KEPT_CHARS).collect();
    format!("{}-{}", kept.trim_end_matches(['-', '.']), hash(whole.as_bytes()))
}

/// How much of its beginning a name that is too long keeps, in characters.
const KEPT_CHARS: usize = NAME_CHARS_MAX - HASH_CHARS - 1;

/// The common prefix of all names `<owner>-<part>`, however long the parts are: to list the names
/// that are taken without reading all objects. Names of other objects may have the prefix, too.
pub fn prefix_of_owned(owner: &str) -> String {
    if owner.len() < KEPT_CHARS {
        return format!("{owner}-");
    }
    let kept: String = owner.chars().take(KEPT_CHARS).collect();
    kept.trim_end_matches(['-', '.']).to_owned()
}

/// The first ten hexadecimal digits of the SHA-256. That is enough to tell the revisions of one
/// owner apart.
pub fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(HASH_CHARS / 2).fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The name of a job's task: `<job>-<index or listed name>`.
pub fn task(job: &str, part: &str) -> String {
    bounded(&format!("{job}-{part}"))
}

/// The name of a service's task: `<service>-<revision>-<slot>`. The slot is a number, or the name of
/// the node of a service that has one task on each.
pub fn service_task(service: &str, revision: u32, slot: &str) -> String {
    bounded(&format!("{service}-{revision}-{slot}"))
}

/// The name of a job of a service's rollout: `<service>-before-<revision>`, `<service>-check-<revision>`.
pub fn rollout_job(service: &str, what: &str, revision: u32) -> String {
    bounded(&format!("{service}-{what}-{revision}"))
}

/// The name of a job in a run: `<run>-<job>`.
pub fn job_in_run(run: &str, job: &str) -> String {
    bounded(&format!("{run}-{job}"))
}

/// The name of a template: `<owner>-<hash10>`.
pub fn template(owner: &str, hash: &str) -> String {
    bounded(&format!("{owner}-{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_flags_and_long_names_are_refused() {
        for bad in ["", "../etc", "a/b", "-rf", "A", "a_b", "a..b", ".", "a.", "a b", "é"] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        assert!(problem(&"a".repeat(64)).is_some());
        for good in ["a", "resize-10", "node-1.example.org", &"a".repeat(63)] {
            assert_eq!(problem(good), None, "{good:?}");
        }
    }

    #[test]
    fn what_an_owner_makes_is_found_by_its_prefix() {
        for length in 1..=63 {
            for (owner, end) in [("a".repeat(length), ""), ("a".repeat(length - 1), "z")] {
                let owner = owner + end;
                let prefix = prefix_of_owned(&owner);
                for part in ["1", "4294967295", &"b".repeat(63)] {
                    let name = job_in_run(&owner, part);
                    assert!(name.starts_with(&prefix), "{name} does not start with {prefix}");
                }
            }
        }
        assert_eq!(prefix_of_owned("a"), "a-", "and not those of others: ab-1");
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_stays_distinct() {
        let (one, two) = (task(&"j".repeat(60), "1000"), task(&"j".repeat(60), "1001"));
        assert_eq!(one.len(), NAME_CHARS_MAX);
        assert_ne!(one, two);
        assert_eq!(problem(&one), None);
    }
}
