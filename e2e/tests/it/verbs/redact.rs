//! What differs from one run of a session to the next, made the same, here alone.

/// Whether each cell of a table is below the beginning of its heading: the row where one is not.
pub(crate) fn aligned(text: &str) -> Option<&str> {
    let mut starts: Vec<usize> = Vec::new();
    for line in text.lines() {
        if is_headings(line) {
            starts = line
                .char_indices()
                .filter(|(at, c)| *at > 1 && *c != ' ' && line[..*at].ends_with("  "))
                .map(|(at, _)| at)
                .collect();
        } else if !line.contains("  ") {
            starts.clear();
        }
        let is_off = |at: &usize| line.len() > *at && line.as_bytes()[at - 1] != b' ';
        if starts.iter().any(is_off) {
            return Some(line);
        }
    }
    None
}

/// What is told on stderr, without the lines that say how far a wait has come: which there are is a matter
/// of time.
pub(crate) fn without_progress(err: &str) -> String {
    let is_progress = |line: &&str| {
        let first = line.split(' ').next().unwrap_or_default();
        first.contains('/') && first.ends_with(':')
    };
    err.lines().filter(|line| !is_progress(line)).map(|line| format!("{line}\n")).collect()
}

fn is_headings(line: &str) -> bool {
    let legal = |c: char| c.is_ascii_uppercase() || matches!(c, ' ' | '.' | '%' | '-');
    line.len() > 1 && line.starts_with(|c: char| c.is_ascii_uppercase()) && line.chars().all(legal)
}

/// The text without uids, times, ages, addresses, hashes, what only this machine is like, and how
/// wide its columns are.
pub(crate) fn redacted(line: &str, text: &str) -> String {
    let of_node = line.contains(" node");
    let of_bundle = line.starts_with("debug bundle");
    let (mut lines, mut in_events) = (Vec::new(), false);
    for line in text.lines() {
        let cells: Vec<String> = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(|cell| {
                cell.split(' ').map(|word| same(word, of_node)).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let mut line = cells.join("  ");
        // Counters of the store, of changes and of bytes.
        let counters = ["resourceVersion:", "generation:", "leaseTransitions:"];
        if let Some(counter) = counters.iter().find(|counter| line.starts_with(**counter)) {
            line = format!("{counter} N");
        } else if of_bundle && line.ends_with(" bytes") {
            line = format!("{}  N bytes", cells[0]);
        }
        in_events = (in_events && !line.is_empty()) || line == "Events:";
        let is_of_machine =
            ["Machine:", "Host:", "Agent:", "Images:"].iter().any(|label| line.starts_with(label));
        // Which there are by now is a matter of time.
        if is_of_machine || (in_events && line != "Events:") {
            continue;
        }
        lines.push(line);
    }
    // Events come as they come: that there are some is enough.
    if line.starts_with("events ") && lines.iter().any(|line| line.starts_with("event/")) {
        lines = vec!["event/...".to_owned()];
    } else if line == "get events" {
        lines.truncate(1);
        lines.push("...".to_owned());
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A word that is the same in each run.
fn same(word: &str, of_node: bool) -> String {
    let inner =
        word.trim_matches(|c: char| matches!(c, '(' | ')' | ',' | '"' | ':' | ';' | '[' | ']'));
    let with = |other: &str| word.replacen(inner, other, 1);
    if inner.is_empty() {
        return word.to_owned();
    }
    if is_uid(inner) {
        return with("UID");
    }
    if inner.starts_with("http://127.0.0.1:") || inner.starts_with("127.0.0.1:") {
        return with("SERVER");
    }
    if inner.len() > 19 && inner.starts_with("20") && inner.ends_with('Z') {
        return with("TIME");
    }
    if of_node && inner.starts_with(|c: char| c.is_ascii_digit()) && !word.ends_with(']') {
        // `0/2(0%)` is a number and its share.
        return if inner.contains('(') { "N(N)".to_owned() } else { with("N") };
    }
    if is_age(inner) {
        return with("AGE");
    }
    without_hash(word)
}

fn is_uid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// `8s`, `12m`, `1h02m`, `3d`.
fn is_age(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let units = text.chars().filter(|c| matches!(c, 's' | 'm' | 'h' | 'd')).count();
    digits > 0
        && (1..=2).contains(&units)
        && digits + units == text.len()
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
}

/// Names of what is made of something end with a hash, and those of runs without a name of their
/// own with random digits.
fn without_hash(word: &str) -> String {
    let ends = ['-', '.', ',', '/', '"', ':'];
    let is_hash = |part: &str| {
        matches!(part.len(), 8 | 10 | 12)
            && part.chars().all(|c| c.is_ascii_hexdigit())
            && part.chars().any(|c| c.is_ascii_digit())
    };
    let part = |part: &str| {
        let bare = part.trim_end_matches(ends);
        if is_hash(bare) { part.replacen(bare, "HASH", 1) } else { part.to_owned() }
    };
    word.split_inclusive(ends).map(part).collect()
}
