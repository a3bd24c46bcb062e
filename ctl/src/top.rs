//! Usage of nodes and tasks as tables. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use api::amounts::{Amounts, CPU, MEMORY, percent};
use api::node::NodePhase;
use api::node::stats::NodeStats;
use api::table::{NOTHING, span};
use api::task::TaskPhase;
use api::{Kind as _, Node, Task, Timestamp};

use crate::args::TopOrder;
use crate::table::{longest_line, natural};

/// The usage of a node or a task; `None` for what is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Use {
    /// The cells before the figures: names.
    pub names: Vec<String>,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// What it requested, or its capacity.
    pub of: Amounts,
}

impl Use {
    fn cells(&self) -> Vec<String> {
        let cpu = (self.cpu_millis, self.of.get(CPU).copied());
        let memory = (self.memory_bytes, self.of.get(MEMORY).copied());
        let figures = [
            cpu.0.map(millis),
            cpu.1.map(millis),
            share(cpu),
            memory.0.map(mebibytes),
            memory.1.map(mebibytes),
            share(memory),
        ];
        let figures = figures.into_iter().map(|cell| cell.unwrap_or_else(|| NOTHING.to_owned()));
        self.names.iter().cloned().chain(figures).collect()
    }
}

/// The usage of a node; unknown if it did not answer.
pub fn of_node(node: &Node, stats: Option<&NodeStats>) -> Use {
    Use {
        names: vec![node.name().to_owned(), node.phase().to_string()],
        cpu_millis: stats.and_then(|stats| stats.cpu_millis),
        memory_bytes: stats.map(|stats| stats.memory_bytes),
        of: node.allocatable(),
    }
}

/// The names of the nodes that can be asked, and messages about the others. A lost node cannot
/// answer, and asking it would produce an error about the server in between.
pub fn heard_and_lost(nodes: &[Node], now: Timestamp) -> (BTreeSet<String>, Vec<String>) {
    let (lost, heard): (Vec<&Node>, Vec<&Node>) =
        nodes.iter().partition(|node| node.phase() == NodePhase::Lost);
    let told = |node: &&Node| format!("node {} is Lost: {}", node.name(), node.why(now));
    (heard.iter().map(|node| node.name().to_owned()).collect(), lost.iter().map(told).collect())
}

/// Messages about lost tasks, one for each node.
pub fn unknown(tasks: &[Task], now: Timestamp) -> Vec<String> {
    let mut by_node: BTreeMap<&str, (usize, Timestamp)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.phase() == TaskPhase::Lost) {
        if let (Some(node), Some(loss)) = (task.node(), task.loss()) {
            let (count, since) = by_node.entry(node).or_insert((0, loss.since));
            (*count, *since) = (*count + 1, (*since).min(loss.since));
        }
    }
    let told = |(node, (count, since)): (&str, (usize, Timestamp))| {
        let silent = format!("{node} has been silent for {}", span(since, now));
        match count {
            1 => format!("1 task is missing: {silent}, and what it uses is not known"),
            _ => format!("{count} tasks are missing: {silent}, and what they use is not known"),
        }
    };
    by_node.into_iter().map(told).collect()
}

fn millis(amount: u64) -> String {
    format!("{amount}m")
}

/// Always in the same unit, so that rows can be compared.
fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

fn share((used, of): (Option<u64>, Option<u64>)) -> Option<String> {
    Some(format!("{}%", percent(used?, of?)?))
}

/// Leaves out columns that are not known for any row, if lines would exceed `width`.
pub fn fit(rows: &mut [Vec<String>], width: usize) {
    for index in (0..rows.first().map_or(0, Vec::len)).rev() {
        let is_known = rows.iter().skip(1).any(|row| row[index] != NOTHING);
        if !is_known && longest_line(rows) > width {
            rows.iter_mut().for_each(|row| drop(row.remove(index)));
        }
    }
}

/// Rows with headings, sorted by name or by usage.
pub fn rows(
    names: &[&str],
    of: &str,
    mut uses: Vec<Use>,
    order: Option<TopOrder>,
) -> Vec<Vec<String>> {
    uses.sort_by_cached_key(|it| {
        let amount = match order {
            None => None,
            Some(TopOrder::Cpu) => it.cpu_millis,
            Some(TopOrder::Memory) => it.memory_bytes,
        };
        let names: Vec<_> = it.names.iter().map(|name| natural(name)).collect();
        (Reverse(amount), names)
    });
    let headings = names.iter().copied().chain(["CPU", of, "CPU%", "MEMORY", of, "MEMORY%"]);
    let headings = headings.map(str::to_owned).collect();
    std::iter::once(headings).chain(uses.iter().map(Use::cells)).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::output;

    fn shown(order: Option<TopOrder>) -> String {
        let of = |cpu, memory| Amounts::from([(CPU.to_owned(), cpu), (MEMORY.to_owned(), memory)]);
        let uses = vec![
            Use {
                names: vec!["web-10".to_owned(), "n1".to_owned()],
                cpu_millis: Some(120),
                memory_bytes: Some(12_500_000),
                of: of(500, 256 << 20),
            },
            Use {
                names: vec!["web-2".to_owned(), "n2".to_owned()],
                cpu_millis: Some(1900),
                memory_bytes: Some(1 << 20),
                of: Amounts::new(),
            },
            Use { names: vec!["web-3".to_owned(), "n3".to_owned()], ..Use::default() },
        ];
        output::indented("", &rows(&["NAME", "NODE"], "REQUEST", uses, order))
    }

    #[test]
    fn use_stands_beside_what_was_asked_for() {
        expect![[r"
            NAME    NODE  CPU    REQUEST  CPU%  MEMORY  REQUEST  MEMORY%
            web-2   n2    1900m  -        -     1Mi     -        -
            web-3   n3    -      -        -     -       -        -
            web-10  n1    120m   500m     24%   12Mi    256Mi    4%
        "]]
        .assert_eq(&shown(None));
    }

    #[test]
    fn what_is_not_known_gives_way_at_a_narrow_terminal() {
        let names = vec!["a".to_owned()];
        let uses = vec![Use { names, memory_bytes: Some(1 << 20), ..Use::default() }];
        let rows = rows(&["NAME"], "REQUEST", uses, None);
        let headings = |width: usize| {
            let mut rows = rows.clone();
            fit(&mut rows, width);
            assert_eq!(rows[0].len(), rows[1].len());
            rows[0].join(" ")
        };
        assert_eq!(headings(60), "NAME CPU REQUEST CPU% MEMORY REQUEST MEMORY%");
        assert_eq!(headings(40), "NAME CPU REQUEST CPU% MEMORY");
        assert_eq!(headings(10), "NAME MEMORY");
    }

    #[test]
    fn a_lost_node_is_shown_as_what_it_is_and_is_not_asked() {
        let node = |name: &str, status: serde_json::Value| -> Node {
            let node = serde_json::json!({
                "metadata": { "name": name }, "spec": {}, "status": status,
            });
            serde_json::from_value(node).unwrap()
        };
        let nodes = [
            node("a", serde_json::json!({ "readySince": "1970-01-01T00:00:00Z" })),
            node("b", serde_json::json!({ "lost": "1970-01-01T00:00:00Z" })),
        ];
        let (heard, lost) = heard_and_lost(&nodes, Timestamp::from_second(39).unwrap());
        assert_eq!(heard, BTreeSet::from(["a".to_owned()]));
        assert_eq!(lost, ["node b is Lost: no heartbeat for 39s"]);
        let uses = nodes.iter().map(|node| of_node(node, None)).collect();
        let shown = output::indented("", &rows(&["NAME", "STATUS"], "OF", uses, None));
        assert!(shown.contains("b     Lost    -"), "{shown}");
    }

    #[test]
    fn lost_tasks_are_missed_by_their_node() {
        let task = |name: &str, node: &str| -> Task {
            let at = "1970-01-01T00:00:00Z";
            let task = serde_json::json!({
                "metadata": { "name": name },
                "spec": { "template": "a", "attempt": 1,
                          "binding": { "node": node, "attempt": 1, "number": 1, "at": at } },
                "status": { "attempt": 1, "binding": 1, "state": "Running",
                            "loss": { "attempt": 1, "since": at } },
            });
            serde_json::from_value(task).unwrap()
        };
        let tasks = [task("x", "a"), task("y", "b"), task("z", "b")];
        assert_eq!(
            unknown(&tasks, Timestamp::from_second(39).unwrap()),
            [
                "1 task is missing: a has been silent for 39s, and what it uses is not known",
                "2 tasks are missing: b has been silent for 39s, and what they use is not known"
            ]
        );
    }

    #[test]
    fn the_greatest_users_come_first_and_unknown_ones_last() {
        let order = |order| {
            let text = shown(Some(order));
            text.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        let names: Vec<String> = order(TopOrder::Cpu);
        assert_eq!(names, ["web-2", "web-10", "web-3"]);
        let names: Vec<String> = order(TopOrder::Memory);
        assert_eq!(names, ["web-10", "web-2", "web-3"]);
    }
}
