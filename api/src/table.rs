//! Cells of tables and parts of sentences: ages, the first of several names, and a dash for
//! nothing.

use std::fmt::Display;

use jiff::Timestamp;

/// What a cell shows where there is nothing to say.
pub const NOTHING: &str = "-";

/// How long ago `since` was, in at most two units: `8s`, `12m`, `1h02m`, `22h`, `3d`.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(|| NOTHING.to_owned(), |since| span(since, now))
}

/// The time between two points; `0s` if the second is before the first.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let secs = to.duration_since(from).as_secs().max(0);
    let (mins, hours) = (secs / 60, secs / 3600);
    match secs {
        0..120 => format!("{secs}s"),
        120..3600 => format!("{mins}m"),
        3600..36_000 => format!("{hours}h{:02}m", mins % 60),
        36_000..172_800 => format!("{hours}h"),
        _ => format!("{}d", hours / 24),
    }
}

/// The time between start and end, or until now if it has not ended; a dash before the start.
pub fn took(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> String {
    start.map_or_else(|| NOTHING.to_owned(), |start| span(start, end.unwrap_or(now)))
}

/// The value, or a dash.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// The text, or a dash where it is empty.
pub fn text_or_dash(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() }
}

/// The first `max` of several, and how many more there are: `a, b, c and 7 more`.
pub fn some_of(all: impl ExactSizeIterator<Item = impl Display>, max: usize) -> String {
    let more = all.len().saturating_sub(max);
    let first: Vec<String> = all.take(max).map(|one| one.to_string()).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_the_first_are_named_and_the_others_counted() {
        let said = [1, 2, 3].map(|count| some_of(["a", "b", "c"].iter().take(count), 2));
        assert_eq!(said, ["a", "a, b", "a, b and 1 more"]);
    }

    #[test]
    fn an_age_has_at_most_two_units() {
        let start = Timestamp::UNIX_EPOCH;
        let after = |secs| span(start, Timestamp::from_second(secs).unwrap());
        let shown = [0, 119, 120, 3599, 3720, 36_000, 172_799, 172_800, 8_640_000].map(after);
        assert_eq!(shown, ["0s", "119s", "2m", "59m", "1h02m", "10h", "47h", "2d", "100d"]);
        assert_eq!(span(Timestamp::from_second(9).unwrap(), start), "0s", "clocks may differ");
        assert_eq!(age(None, start), "-");
    }
}
