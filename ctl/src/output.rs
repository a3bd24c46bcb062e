//! Columns: rows of cells as aligned text. Pure.

use anstyle::{AnsiColor, Style};

/// The gap between two columns.
pub const GAP: &str = "  ";
/// A column does not become wider than the longest name. A row with a longer cell is out of line
/// instead.
const WIDTH_MAX: usize = api::names::LONG_NAME_CHARS_MAX;

/// The indentation of continuation lines.
const CONTINUED: &str = "    ";
/// Least width of the last cell of a folded row.
const SENTENCE_ROOM: usize = 28;
/// Least width of a column that is narrowed in favour of the sentence after it.
const NARROWED_MIN: usize = 8;

/// Marks a line that was cut.
const CUT: &str = "...";
const GOOD: Style = AnsiColor::Green.on_default();
const UNSURE: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// The properties of the output for tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paper {
    /// Width of a line. Longer lines are cut, so that a terminal does not wrap them. `None` for a
    /// pipe or a file.
    pub width: Option<usize>,
    /// Whether phases are coloured.
    pub colours: bool,
    /// Whether a row that is too long is folded and not cut.
    pub folds: bool,
}

/// Prints rows as they come. Columns only become wider.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    widths: Vec<usize>,
    paper: Paper,
    /// The longest word or label in the last column, which must not be broken.
    longest_word: usize,
}

impl Columns {
    /// Columns for this output.
    pub fn on(paper: Paper) -> Self {
        Self { paper, ..Self::default() }
    }

    /// What they are printed on.
    pub fn paper(&self) -> Paper {
        self.paper
    }

    /// Columns for rows that are mostly still to come, with room for usual values, so that they
    /// seldom become wider.
    pub fn with_room(headings: &[String], paper: Paper) -> Self {
        let widths = headings.iter().map(|heading| room(heading)).collect();
        Self { widths, paper, ..Self::default() }
    }

    /// Widens columns for a row. Returns whether that was necessary.
    pub fn widen_for(&self, row: &[String]) -> bool {
        // There is nothing to the right of the last cell.
        let inner = row.len().saturating_sub(1);
        let mut widths = row.iter().take(inner).map(|cell| width_of(cell)).enumerate();
        widths.any(|(index, width)| width > self.widths.get(index).copied().unwrap_or_default())
    }

    /// The rows as lines. The last cell is never padded.
    pub fn lines<'a>(&mut self, rows: impl IntoIterator<Item = &'a [String]> + Clone) -> String {
        for row in rows.clone() {
            for (index, cell) in row.iter().enumerate() {
                let width = width_of(cell);
                match self.widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
            let word = row.last().map(|cell| longest_word(cell)).unwrap_or_default();
            self.longest_word = self.longest_word.max(word);
        }
        match self.paper.width.filter(|_| self.paper.folds) {
            Some(width) => {
                let starts = self.starts(width);
                rows.into_iter().map(|row| self.folded_row(row, &starts, width)).collect()
            }
            None => rows.into_iter().map(|row| self.line(row)).collect(),
        }
    }

    /// On which line of a folded row each column begins, and at which position: the same for all
    /// rows, so that headings are above their columns.
    fn starts(&self, width: usize) -> Vec<(usize, usize)> {
        let (mut line, mut at) = (0, 0);
        let mut starts = Vec::new();
        let last = self.widths.len().saturating_sub(1);
        // A word that fits into no line is broken anyway.
        let word = Some(self.longest_word).filter(|word| CONTINUED.len() + word <= width);
        let sentence = SENTENCE_ROOM.max(word.unwrap_or_default());
        for (index, chars) in self.widths.iter().enumerate() {
            // The last cell is usually a sentence, which can continue on the next line.
            let needed = if index == last { (*chars).min(sentence) } else { *chars };
            let excess = (at + needed).saturating_sub(width);
            if index == last && line == 0 && excess > 0 && self.can_stand_out_by(excess) {
                at -= excess;
            } else if at > 0 && excess > 0 {
                (line, at) = (line + 1, CONTINUED.len());
            }
            starts.push((line, at));
            at += chars + GAP.len();
        }
        starts
    }

    /// Whether the cells before the last one may exceed their columns by this much. If not, the
    /// last one begins on the next line.
    fn can_stand_out_by(&self, excess: usize) -> bool {
        let before = self.widths.iter().rev().nth(1).copied().unwrap_or_default();
        before >= NARROWED_MIN + excess
    }

    fn folded_row(&self, row: &[String], starts: &[(usize, usize)], width: usize) -> String {
        let (mut text, mut line, mut at) = (String::new(), 0, 0);
        let filled = row.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        for (index, (cell, (on, start))) in row.iter().zip(starts).enumerate().take(filled) {
            if *on > line {
                text.push('\n');
                (line, at) = (*on, 0);
            }
            let cell = printable(cell);
            if index + 1 == row.len() && at > 0 && at + GAP.len() > *start {
                text.push('\n');
                at = 0;
            }
            // A cell that is wider than its column is still separated from the next.
            let gap = start.saturating_sub(at).max(if at > 0 { GAP.len() } else { 0 });
            text.push_str(&" ".repeat(gap));
            at += gap;
            let style = paint(&cell).filter(|_| self.paper.colours);
            match style {
                Some(style) => text.push_str(&format!("{style}{cell}{style:#}")),
                // Labels may be longer than a line.
                None if cell.contains(',') && at + cell.chars().count() > width => {
                    let cell = cell.replace(", ", ",").replace(',', ", ");
                    let cell = hung(&format!("{}{cell}", " ".repeat(at)), at, at, width);
                    text.push_str(cell.trim());
                }
                None if cell.contains(' ') => {
                    // Only a sentence contains spaces, and it is the last cell of its line.
                    let cell = hung(&format!("{}{cell}", " ".repeat(at)), at, at, width);
                    text.push_str(cell.trim());
                }
                None => text.push_str(&cell),
            }
            at += cell.chars().count();
        }
        text.push('\n');
        text
    }

    fn line(&self, row: &[String]) -> String {
        let texts: Vec<String> = row.iter().map(|cell| printable(cell)).collect();
        let filled = texts.iter().rposition(|text| !text.is_empty()).map_or(0, |last| last + 1);
        let mut parts: Vec<(String, Option<Style>)> = Vec::new();
        for (index, text) in texts[..filled].iter().enumerate() {
            let width = self.widths.get(index).copied().unwrap_or_default();
            let padding = if index + 1 == filled { 0 } else { width + GAP.len() };
            let padding = padding.saturating_sub(text.chars().count());
            parts.push((text.clone(), paint(text).filter(|_| self.paper.colours)));
            // A cell that is wider than its column is still separated from the next.
            let gap = if index + 1 == filled { 0 } else { padding.max(GAP.len()) };
            parts.push((" ".repeat(gap), None));
        }
        let chars: usize = parts.iter().map(|(text, _)| text.chars().count()).sum();
        let width = self.paper.width.unwrap_or(usize::MAX);
        let (mut room, cut) =
            if chars > width { (width.saturating_sub(CUT.len()), CUT) } else { (chars, "") };
        let mut line = String::new();
        for (text, style) in &parts {
            let shown: String = text.chars().take(room).collect();
            room -= shown.chars().count();
            match style {
                Some(style) => line.push_str(&format!("{style}{shown}{style:#}")),
                None => line.push_str(&shown),
            }
        }
        line.extend(cut.chars().take(width));
        line.push('\n');
        line
    }
}

/// The initial width of a column whose cells are not known.
pub fn room(heading: &str) -> usize {
    match heading {
        "NAME" => 16,
        "STATUS" => "Terminating".len(),
        "NODE" => 8,
        "TYPE" => "Warning".len(),
        "AGE" | "TOOK" => "59m".len() + 1,
        _ => heading.chars().count(),
    }
}

/// The colour of a cell that is a phase.
fn paint(cell: &str) -> Option<Style> {
    match cell {
        "Succeeded" | "Ready" | "Active" | "Running" => Some(GOOD),
        "Pending" | "Bound" | "Starting" | "Stopping" | "Suspended" | "Cordoned" | "Draining"
        | "Skipped" | "Cancelled" | "Terminating" | "Deleted" => Some(UNSURE),
        "Failed" | "TimedOut" | "Lost" | "NotReady" | "Warning" => Some(BAD),
        _ => None,
    }
}

/// The longest part of a cell that must not be broken: a word, or a label with its comma.
fn longest_word(cell: &str) -> usize {
    let words = cell.split(' ').flat_map(|word| word.split_inclusive(','));
    words.map(|word| word.chars().count()).max().unwrap_or_default()
}

fn width_of(cell: &str) -> usize {
    cell.chars().count().min(WIDTH_MAX)
}

/// A small table as text, each line after `indent`.
pub fn indented(indent: &str, rows: &[Vec<String>]) -> String {
    let text = Columns::default().lines(rows.iter().map(Vec::as_slice));
    text.lines().map(|line| format!("{indent}{line}\n")).collect()
}

/// Number of spaces that separate parts of a line which belong together, such as a suggested
/// command.
const APART: usize = 4;

/// A line folded into lines of at most `width` characters, without breaking words. The text from
/// `hang` on is folded and indented to its beginning.
pub fn folded(line: &str, hang: usize, width: usize) -> String {
    // With a larger indentation there would be room for few words.
    hung(line, hang, hang.min(width / 2), width)
}

/// The same with this indentation of continuation lines.
fn hung(line: &str, hang: usize, indent: usize, width: usize) -> String {
    let chars = |text: &str| text.chars().count();
    let start = line.char_indices().nth(hang).map_or(line.len(), |(at, _)| at);
    // If that is in the middle of a word, there is no such beginning on this line.
    let is_within =
        line[..start].ends_with(|c| c != ' ') && line[start..].starts_with(|c| c != ' ');
    let (head, text) = line.split_at(if is_within { 0 } else { start });
    if chars(line) <= width || text.trim().is_empty() {
        return format!("{line}\n");
    }
    let indent = " ".repeat(indent);
    let (mut folded, mut at) = (head.to_owned(), chars(head));
    let mut rest = text;
    let mut has_words = false;
    while !rest.is_empty() {
        let word_start = rest.find(|c| c != ' ').unwrap_or(rest.len());
        let (gap, from) = rest.split_at(word_start);
        let end = from.find(' ').unwrap_or(from.len());
        // A separated part stays together if it fits into a line.
        let together = from.find(&" ".repeat(APART)).unwrap_or(from.len());
        let together = chars(&from[..together]);
        let is_apart = gap.len() >= APART && chars(&indent) + together <= width;
        let needed = if is_apart { together } else { chars(&from[..end]) };
        // A word that is too long for any line is only moved to the next one if it gains room
        // there.
        let gains = has_words || at > chars(&indent);
        if at + gap.len() + needed > width && gains {
            folded.truncate(folded.trim_end().len());
            folded.push('\n');
            folded.push_str(&indent);
            at = chars(&indent);
        } else {
            folded.push_str(gap);
            at += gap.len();
        }
        folded.push_str(&from[..end]);
        at += chars(&from[..end]);
        (rest, has_words) = (&from[end..], true);
    }
    folded.push('\n');
    folded
}

/// Foreign text on one line, without control characters that a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A number with separators: `61,204`.
pub fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn rows(text: &str) -> Vec<Vec<String>> {
        let cells = |line: &str| line.split('|').map(str::to_owned).collect();
        text.lines().map(cells).collect()
    }

    fn lines(columns: &mut Columns, text: &str) -> String {
        let rows = rows(text);
        columns.lines(rows.iter().map(Vec::as_slice))
    }

    #[test]
    fn cells_stand_below_each_other() {
        let text = "NAME|STATUS|AGE|WHY\nweb-14-0|Running|4d|\nledger|Lost|3d|node silent for 39s";
        expect![[r"
            NAME      STATUS   AGE  WHY
            web-14-0  Running  4d
            ledger    Lost     3d   node silent for 39s
        "]]
        .assert_eq(&lines(&mut Columns::default(), text));
    }

    #[test]
    fn later_rows_keep_the_columns_and_widen_them_where_they_must() {
        let mut columns = Columns::default();
        let mut text = lines(&mut columns, "NAME|STATUS|AGE\nweb-0|Running|4d");
        text += &lines(&mut columns, "w|Lost|4d");
        text += &lines(&mut columns, "a-longer-name|Lost|4d");
        text += &lines(&mut columns, "w|Lost|4d");
        expect![[r"
            NAME   STATUS   AGE
            web-0  Running  4d
            w      Lost     4d
            a-longer-name  Lost     4d
            w              Lost     4d
        "]]
        .assert_eq(&text);
    }

    #[test]
    fn rows_to_come_have_room_and_a_row_that_does_not_fit_is_known_before() {
        let row = |text: &str| rows(text).remove(0);
        let headings = row("NAME|STATUS|AGE|WHY");
        let mut columns = Columns::with_room(&headings, Paper::default());
        for (text, widens) in [
            ("load-0|Bound|0s|", false),
            ("load-0|Terminating|59m|", false),
            ("load-0|Running|0s|a why that is long, but the last cell", false),
            ("smoke-flow-1-load-0|Running|0s|", true),
        ] {
            assert_eq!(columns.widen_for(&row(text)), widens, "{text}");
        }
        let text = lines(&mut columns, "smoke-flow-1-load-0|Running|0s|");
        assert_eq!(text, "smoke-flow-1-load-0  Running      0s\n");
        assert!(!columns.widen_for(&row("smoke-flow-1-load-1|Bound|0s|")));
    }

    #[test]
    fn the_longest_name_is_no_reason_to_be_out_of_line() {
        let name = "n".repeat(api::names::LONG_NAME_CHARS_MAX);
        let text = lines(&mut Columns::default(), &format!("NAME|AGE\n{name}|1s\nb|2s"));
        let ends: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(ends, [258, 257, 257]);
    }

    #[test]
    fn what_others_wrote_does_not_command_the_terminal() {
        assert_eq!(lines(&mut Columns::default(), "a\u{1b}[2Jb\tc"), "a [2Jb c\n");
    }

    #[test]
    fn a_line_fits_the_terminal_and_shows_where_it_was_cut() {
        let paper = Paper { width: Some(24), ..Paper::default() };
        let text = "NAME|STATUS|WHY\nweb|Running|exit 3 on node-1\nweb|Running|exit 3 now";
        expect![[r#"
            NAME  STATUS   WHY
            web   Running  exit 3 ...
            web   Running  exit 3 now
        "#]]
        .assert_eq(&lines(&mut Columns::on(Paper { width: Some(25), ..paper }), text));
        let narrow =
            |width| lines(&mut Columns::on(Paper { width: Some(width), ..paper }), "NAME|AGE");
        assert_eq!(narrow(2), "..\n");
        assert_eq!(narrow(6), "NAM...\n", "what does not fit at all is marked, too");
        assert_eq!(narrow(9), "NAME  AGE\n");
    }

    #[test]
    fn a_row_that_is_too_long_goes_on_below_between_its_cells() {
        let on = |width, text: &str| {
            let paper = Paper { width: Some(width), folds: true, ..Paper::default() };
            lines(&mut Columns::on(paper), text)
        };
        let text = "NAME|STATUS|NODE|PORTS|AGE|WHY\n\
                    web-14|Running|node-1|http=31120|4d|\n\
                    a|Failed|node-12|-|3d|exit 3 after a while; and more of it than fits";
        expect![[r"
            NAME    STATUS   NODE
                PORTS       AGE
                WHY
            web-14  Running  node-1
                http=31120  4d
            a       Failed   node-12
                -           3d
                exit 3 after a while;
                and more of it than fits
        "]]
        .assert_eq(&on(28, text));
        expect![[r"
            NAME    STATUS   NODE     PORTS       AGE  WHY
            web-14  Running  node-1   http=31120  4d
            a       Failed   node-12  -           3d   exit 3 after a while; and
                                                       more of it than fits
        "]]
        .assert_eq(&on(72, text));
    }

    #[test]
    fn labels_that_are_longer_than_a_line_are_folded_between_them() {
        let paper = Paper { width: Some(30), folds: true, ..Paper::default() };
        let text = "NAME|LABELS|WHY\na|app=web,tier=front,team=a-long-name|exit 3";
        expect![[r"
            NAME
                LABELS
                WHY
            a
                app=web, tier=front,
                team=a-long-name
                exit 3
        "]]
        .assert_eq(&lines(&mut Columns::on(paper), text));
    }

    #[test]
    fn no_label_is_folded_within() {
        let paper = Paper { width: Some(52), folds: true, ..Paper::default() };
        let text = "NAME|STATUS|LABELS\n\
                    nightly-1|Succeeded|heliox.dev/workflow=nightly-load,app=b\n\
                    one|Failed|heliox.dev/workflow=nightly-load";
        expect![[r"
            NAME       STATUS
                LABELS
            nightly-1  Succeeded
                heliox.dev/workflow=nightly-load,app=b
            one        Failed
                heliox.dev/workflow=nightly-load
        "]]
        .assert_eq(&lines(&mut Columns::on(paper), text));
    }

    #[test]
    fn a_cell_that_stands_out_has_the_sentence_after_it_on_the_next_line() {
        let paper = Paper { width: Some(60), folds: true, ..Paper::default() };
        let text = "SEEN|REASON|OBJECT|MESSAGE\n\
                    3s|Retried|job/load|attempt 1 on node-1 ended with exit code 3\n\
                    4s|Bound|job/etl-1-extract-something|on node-1";
        expect![[r"
            SEEN  REASON   OBJECT           MESSAGE
            3s    Retried  job/load         attempt 1 on node-1 ended
                                            with exit code 3
            4s    Bound    job/etl-1-extract-something
                                            on node-1
        "]]
        .assert_eq(&lines(&mut Columns::on(paper), text));
    }

    #[test]
    fn phases_are_coloured_and_stay_in_their_columns() {
        let paper = Paper { colours: true, ..Paper::default() };
        let text = lines(&mut Columns::on(paper), "NAME|STATUS|AGE\na|Failed|1s\nb|Lost|2s");
        let lines = [
            "NAME  STATUS  AGE",
            "a     \x1b[31mFailed\x1b[0m  1s",
            "b     \x1b[31mLost\x1b[0m    2s",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_long_line_is_folded_between_words_and_hangs_below_its_beginning() {
        let line = "Why:      0 of 3 nodes: 2 have cpu < 500m, 1 cordoned";
        expect![[r#"
            Why:      0 of 3 nodes: 2
                      have cpu < 500m,
                      1 cordoned
        "#]]
        .assert_eq(&folded(line, 10, 26));
        assert_eq!(folded(line, 10, 80), format!("{line}\n"));
        // The separated part stays together.
        let line = "Fails:    1 of at most 0: exit 3 x1        hctl logs job/a --failed";
        expect![[r#"
            Fails:    1 of at most 0: exit 3 x1
                      hctl logs job/a --failed
        "#]]
        .assert_eq(&folded(line, 10, 60));
        // No word is broken, and no line is empty.
        let long = "x".repeat(30);
        let line = format!("Image:    {long} and {long}");
        let expected = format!("Image:    {long}\n          and\n          {long}\n");
        assert_eq!(folded(&line, 10, 24), expected);
        assert_eq!(folded(&long, 2, 24), format!("{long}\n"));
        // A row with an empty last cell, and one whose last cell begins far to the right.
        assert_eq!(folded("  a  b", 20, 4), "  a  b\n");
        let row = folded("  a-name  Failed  exit 3", 18, 20);
        assert_eq!(row, "  a-name  Failed\n          exit 3\n");
    }

    #[test]
    fn folding_loses_no_word_and_keeps_to_the_width() {
        let line = "Why:      word wörd and  some   more    and-a-much-longer-word  x 日本語 end";
        for width in 1..100 {
            for hang in [0, 2, 10, 40, 90] {
                let text = folded(line, hang, width);
                let words =
                    |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(words(&text), words(line), "{width} {hang}");
                let is_word_alone = |line: &str| line.split_whitespace().count() <= 1;
                let fits = |line: &str| line.chars().count() <= width || is_word_alone(line);
                // The part before the folded text is unchanged.
                assert!(text.lines().skip(1).all(fits), "{width} {hang}: {text}");
            }
        }
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1000, 61_204, 4_000_000_000].map(grouped),
            ["0", "999", "1,000", "61,204", "4,000,000,000"]
        );
    }
}
