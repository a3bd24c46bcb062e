//! `hctl get tasks --job JOB --run N`: the tasks of one run of a job as they were at its end.
//!
//! A task keeps its name from run to run, and the server's table shows its current run. So the rows
//! of an earlier run are computed here, from the attempts that the task keeps.

use api::resource::Resource as _;
use api::task::ATTEMPTS_KEPT;
use api::{Job, Kind as _, KindId, Task, Timestamp, labels};
use serde_json::Value;

use super::{rows, show};
use crate::args::Get;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::table::{self, ColumnDefinition, Row, RowObject, Table};
use crate::target::Target;
use crate::{arguments, terminal};

pub(super) async fn get(
    connection: &Connection,
    (name, run): (&str, u32),
    args: &Get,
) -> Result<(), Failure> {
    let phase =
        args.phase.as_deref().map(|phase| arguments::phase(KindId::Task, phase)).transpose()?;
    let target = Target::new(KindId::Job, name);
    let job: Job = connection.get(&target).await?;
    let of_job = format!("{}={name}", labels::JOB);
    let selected = [Some(of_job), args.selector.clone()].into_iter().flatten();
    let labels = selected.collect::<Vec<_>>().join(",");
    let query = connection.query(KindId::Task, labels, String::new());
    let (tasks, _) = connection.list::<Value>(&query).await?;
    let tasks = tasks.into_iter().map(|task| Ok((connection.typed(task.clone())?, task)));
    let tasks: Vec<(Task, Value)> = tasks.collect::<Result<_, Failure>>()?;
    let found = of_run(&tasks, run, connection.clock.now());
    if found.is_empty() {
        nothing_of(&target, &job, (run, tasks.is_empty()))?;
    }
    let missing = tasks.len() - found.len();
    let is_wanted = |(_, row): &(usize, Row)| phase.is_none_or(|phase| status_of(row) == phase);
    let wanted: Vec<(usize, Row)> = found.into_iter().filter(is_wanted).collect();
    let (numbers, rows): (Vec<usize>, Vec<Row>) = wanted.into_iter().unzip();
    if !connection.format.is_table() {
        let named = |number: usize| {
            let (task, object) = &tasks[number];
            (Target::new(KindId::Task, task.name()), document(object))
        };
        return show::objects(connection.format, numbers.into_iter().map(named).collect(), true);
    }
    let shown = rows.len();
    if rows.is_empty() {
        terminal::note(&rows::nothing(&query));
    } else {
        let mut table = Table { column_definitions: columns(), rows, ..Table::default() };
        table::sort(KindId::Task, &mut table.rows);
        rows::whole_table(connection, args, (KindId::Task, &mut table))?;
    }
    if run == job.status.run {
        rows::say_what_is_hidden(connection, &job, shown);
    } else if missing > 0 && shown > 0 {
        let all = tasks.len();
        terminal::note(&format!("{missing} of {all} tasks remember no attempt of run {run}."));
    }
    Ok(())
}

/// An item of a list as a document of its own.
fn document(object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = KindId::Task.api_version().into();
    object["kind"] = KindId::Task.info().kind.into();
    object
}

fn columns() -> Vec<ColumnDefinition> {
    let column = |it: &api::resource::Column| ColumnDefinition {
        name: it.name.to_owned(),
        priority: i32::from(it.wide),
    };
    Task::columns().iter().map(column).collect()
}

fn status_of(row: &Row) -> &str {
    let index = Task::columns().iter().position(|column| column.name == "STATUS");
    index.and_then(|index| row.cells.get(index)?.as_str()).unwrap_or_default()
}

/// The rows of the tasks that were in a run, each with the task's index in `tasks`.
fn of_run(tasks: &[(Task, Value)], run: u32, now: Timestamp) -> Vec<(usize, Row)> {
    let row = |(number, (task, _)): (usize, &(Task, Value))| {
        let cells = task.row_of_run(run, now)?.into_iter().map(Value::from).collect();
        let object = RowObject { metadata: task.metadata.clone() };
        Some((number, Row { cells, object }))
    };
    tasks.iter().enumerate().filter_map(row).collect()
}

/// The result if no task of a run exists, which is an error unless it is the current run.
fn nothing_of(target: &Target, job: &Job, (run, has_no_tasks): (u32, bool)) -> Result<(), Failure> {
    let now = job.status.run;
    let missing = |message: String| Failure::new(message).code(Code::NotFound);
    if run == now {
        return Ok(());
    }
    if run > now {
        let newest = match now {
            0 => "it has not started yet".to_owned(),
            now => format!("its newest run is {now}"),
        };
        return Err(missing(format!("{target} has no run {run}: {newest}"))
            .hint(format!("check its status with hctl describe {target}")));
    }
    let why = if has_no_tasks {
        "finished tasks are removed after a while (keepTasks)".to_owned()
    } else {
        format!("a task remembers its newest {ATTEMPTS_KEPT} earlier attempts")
    };
    Err(missing(format!("nothing is left of run {run} of {target}: {why}"))
        .hint(format!("see run {now} with hctl get tasks --job {}", target.name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_is_not_there_says_whether_it_was() {
        let told = |run: u32, now: u32, has_no_tasks| {
            let job = json!({
                "metadata": { "name": "load" }, "status": { "run": now },
                "spec": { "template": { "image": "x" } },
            });
            let job: Job = serde_json::from_value(job).unwrap();
            let target = Target::new(KindId::Job, "load");
            nothing_of(&target, &job, (run, has_no_tasks)).err().map(|it| (it.code, it.message))
        };
        let missing = |message: &str| Some((Code::NotFound, message.to_owned()));
        assert_eq!(told(2, 2, true), None, "its tasks come");
        assert_eq!(told(7, 2, false), missing("job/load has no run 7: its newest run is 2"));
        assert_eq!(told(1, 0, true), missing("job/load has no run 1: it has not started yet"));
        assert_eq!(
            told(1, 2, true),
            missing(
                "nothing is left of run 1 of job/load: finished tasks are removed after a while (keepTasks)"
            )
        );
        assert_eq!(
            told(1, 2, false),
            missing(
                "nothing is left of run 1 of job/load: a task remembers its newest 5 earlier attempts"
            )
        );
    }

    #[test]
    fn tasks_that_were_in_a_run_are_found_by_their_attempts() {
        let task = |name: &str, run: u32, past: Value| {
            let object = json!({
                "metadata": { "name": name }, "spec": { "template": "t", "run": run, "attempt": 9 },
                "status": { "attempts": past },
            });
            (serde_json::from_value::<Task>(object.clone()).unwrap(), object)
        };
        let past = |run: u32, phase: &str| json!([{ "attempt": 1, "run": run, "phase": phase }]);
        let tasks = [
            task("a-0", 2, past(1, "Failed")),
            task("a-1", 2, past(2, "Failed")),
            task("a-2", 1, json!([])),
        ];
        let found = |run: u32| {
            let rows = of_run(&tasks, run, Timestamp::UNIX_EPOCH);
            let cell = |(number, row): &(usize, Row)| format!("{number} {}", status_of(row));
            rows.iter().map(cell).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(found(1), "0 Failed, 2 Pending");
        assert_eq!(found(2), "0 Pending, 1 Pending");
        assert_eq!(found(3), "");
    }
}
