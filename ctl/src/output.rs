//! Columns: rows of cells as aligned text. Pure.

/// Between two columns.
const GAP: &str = "  ";
/// A column does not widen for a cell longer than this: the row is out of line instead.
const WIDTH_MAX: usize = 60;

/// Prints rows below each other as they come: widths only grow.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// The rows as lines, as wide as they and those before need. The last cell is never padded.
    pub fn lines<'a>(&mut self, rows: impl IntoIterator<Item = &'a [String]> + Clone) -> String {
        for row in rows.clone() {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.chars().count().min(WIDTH_MAX);
                match self.widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
        }
        rows.into_iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            if index > 0 {
                line.push_str(GAP);
            }
            let width = self.widths.get(index).copied().unwrap_or_default();
            let cell = printable(cell);
            line.push_str(&format!("{cell:width$}"));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// A small table as text, each line after `indent`.
pub fn indented(indent: &str, rows: &[Vec<String>]) -> String {
    let text = Columns::default().lines(rows.iter().map(Vec::as_slice));
    text.lines().map(|line| format!("{indent}{line}\n")).collect()
}

/// Text of others on one line, and without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A number with thousands apart: `61,204`.
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
    fn what_others_wrote_does_not_command_the_terminal() {
        assert_eq!(lines(&mut Columns::default(), "a\u{1b}[2Jb\tc"), "a [2Jb c\n");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1000, 61_204, 4_000_000_000].map(grouped),
            ["0", "999", "1,000", "61,204", "4,000,000,000"]
        );
    }
}
