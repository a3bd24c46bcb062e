//! `hctl get`: objects as tables or documents, once or as they change.

use api::job::JobStatus;
use api::resource::columns_of;
use api::selector::FieldSelector;
use api::{Job, Kind as _, KindId};
use serde_json::Value;

use super::each::Failures;
use super::{run_tasks, show, watch};
use crate::args::{Format, Get};
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::output::{Columns, Paper, grouped};
use crate::table::{self, Look, Row, Shown, Table};
use crate::target::{self, Target};
use crate::{door, terminal};

/// What `get all` shows.
fn all() -> Vec<KindId> {
    KindId::ALL.into_iter().filter(|kind| kind.info().in_all).collect()
}

pub(super) async fn get(connection: &Connection, args: Get) -> Result<(), Failure> {
    let mut what = wanted(&args.what)?;
    // Of all kinds some have no such phase.
    if let (What::Kinds(kinds), Some(phase), [all]) = (&mut what, &args.phase, args.what.as_slice())
        && is_all(all)
    {
        let any = kinds.iter().find_map(|kind| door::phase(*kind, phase).ok());
        if any.is_some() {
            kinds.retain(|kind| door::phase(*kind, phase).is_ok());
        }
    }
    is_for_tables(connection.format, &args)?;
    if let Some(run) = args.run {
        let job = job_of_run(&what, &args)?;
        return run_tasks::get(connection, (&job, run), &args).await;
    }
    let shown = match &what {
        What::Kinds(kinds) => {
            let asked = fields_of_each(kinds, args.field_selector.as_deref());
            let queries: Result<Vec<Query>, Failure> = asked
                .into_iter()
                .map(|(kind, fields)| query(connection, (kind, fields), &args))
                .collect();
            queries?
        }
        What::Objects(targets) => {
            let selects = args.selector.is_some() || args.field_selector.is_some();
            if args.all_namespaces || selects || args.phase.is_some() || args.job.is_some() {
                return Err(by_name_alone());
            }
            if !args.watch {
                let shown = objects(connection, targets, &args).await;
                // Of `job,task NAME` one kind usually has the name: to point to that says nothing new.
                let are_guesses = args.what.first().is_some_and(|word| word.contains(','));
                return shown.map_err(|failure| match are_guesses {
                    true => Failure { missing: None, ..failure },
                    false => failure,
                });
            }
            let named = |target: &Target| {
                let fields = format!("metadata.name={}", target.name);
                connection.query(target.kind, String::new(), fields)
            };
            targets.iter().map(named).collect()
        }
    };
    if args.watch {
        // What is not there is no news, and might never be.
        if let What::Objects(targets) = &what {
            for target in targets {
                connection.get::<Value>(target).await?;
            }
        }
        let look = look(connection, &args);
        let watched = shown.into_iter().map(|query| (query, look));
        return watch::watch(connection, watched.collect()).await;
    }
    match connection.format {
        Format::Table | Format::Wide => tables(connection, shown, &args).await,
        Format::Yaml | Format::Json | Format::Name => documents(connection, &shown).await,
    }
}

/// Refuses flags of tables where something else is printed.
fn is_for_tables(format: Format, args: &Get) -> Result<(), Failure> {
    let flags = [
        ("--sort-by", args.sort_by.is_some()),
        ("--no-headers", args.no_headers),
        ("--show-labels", args.show_labels),
    ];
    let is_table = format.is_table();
    match flags.iter().find(|(_, given)| *given && !is_table) {
        Some((flag, _)) => Err(Failure::usage(format!("{flag} is for tables"))
            .hint("leave it out, or print -o table or -o wide")),
        None => Ok(()),
    }
}

fn by_name_alone() -> Failure {
    Failure::usage("objects that are given by name cannot be filtered as well")
        .hint("leave out the names, or the flags that filter")
}

/// The job whose run is asked for. A number alone does not say of which job the run is.
fn job_of_run(what: &What, args: &Get) -> Result<String, Failure> {
    let kinds = match what {
        What::Kinds(kinds) => kinds,
        What::Objects(_) => return Err(by_name_alone()),
    };
    let hint = "hctl get tasks --job JOB --run NUMBER";
    match (kinds.as_slice(), &args.job) {
        ([KindId::Task], Some(job)) => Ok(job.clone()),
        ([KindId::Task], None) => {
            Err(Failure::usage("--run selects among the runs of one job").hint(hint))
        }
        ([KindId::WorkflowRun], _) => {
            Err(Failure::usage("--run is the number of a job's run, and selects tasks")
                .hint(format!("{hint}; or hctl get run/NAME")))
        }
        _ => Err(Failure::usage("--run selects tasks").hint(hint)),
    }
}

/// How the arguments want tables of one kind.
fn look(connection: &Connection, args: &Get) -> Look {
    Look {
        is_wide: connection.format == Format::Wide,
        with_labels: args.show_labels,
        without_headings: args.no_headers,
        ..Look::default()
    }
}

/// What is wanted: all objects of kinds, or some by name.
enum What {
    Kinds(Vec<KindId>),
    Objects(Vec<Target>),
}

fn wanted(words: &[String]) -> Result<What, Failure> {
    match words {
        [word] if is_all(word) => Ok(What::Kinds(all())),
        [kinds] if !kinds.contains('/') => {
            let kinds: Result<Vec<KindId>, Failure> = kinds.split(',').map(target::kind).collect();
            kinds.map(What::Kinds)
        }
        // `job,task NAME`: one of each kind.
        [kinds, names @ ..] if kinds.contains(',') && !kinds.contains('/') => {
            let kinds: Vec<KindId> =
                kinds.split(',').map(target::kind).collect::<Result<_, Failure>>()?;
            let mut targets = Vec::new();
            for kind in kinds {
                for name in names {
                    targets.push(target::one(name, Some(kind))?);
                }
            }
            Ok(What::Objects(targets))
        }
        words => target::several(words).map(What::Objects),
    }
}

fn is_all(word: &str) -> bool {
    word.eq_ignore_ascii_case("all")
}

/// The field selector for each of several kinds. Those that can never be as it says are left out, unless
/// that is so of all: then it is a slip, which is told.
fn fields_of_each(kinds: &[KindId], fields: Option<&str>) -> Vec<(KindId, Option<String>)> {
    let as_given = || kinds.iter().map(|kind| (*kind, fields.map(str::to_owned))).collect();
    let selector: Option<FieldSelector> = fields.and_then(|fields| fields.parse().ok());
    let (Some(selector), [_, _, ..]) = (selector, kinds) else { return as_given() };
    let narrowed = |kind: &KindId| Some((*kind, Some(selector.narrowed(*kind)?.to_string())));
    let some: Vec<_> = kinds.iter().filter_map(narrowed).collect();
    if some.is_empty() { as_given() } else { some }
}

/// What the arguments select of a kind.
fn query(
    connection: &Connection,
    (kind, fields): (KindId, Option<String>),
    args: &Get,
) -> Result<Query, Failure> {
    let mut labels: Vec<String> = args.selector.iter().cloned().collect();
    let mut fields: Vec<String> = fields.into_iter().filter(|fields| !fields.is_empty()).collect();
    if let Some(job) = &args.job {
        if kind != KindId::Task {
            let message = format!("--job selects tasks, not {}", kind.info().plural);
            return Err(Failure::usage(message).hint("hctl get tasks --job JOB"));
        }
        labels.push(format!("{}={job}", api::labels::JOB));
    }
    if let Some(phase) = &args.phase {
        fields.push(format!("status.phase={}", door::phase(kind, phase)?));
    }
    let fields = fields.join(",");
    // Each flag is a selector by itself; the server says it, should they be none together.
    let selector: Option<FieldSelector> = fields.parse().ok();
    if let Some(problem) = selector.and_then(|selector| selector.problem(kind)) {
        return Err(Failure::usage(problem));
    }
    let mut query = connection.query(kind, labels.join(","), fields);
    if args.all_namespaces {
        query.namespace.clear();
    }
    Ok(query)
}

/// Prints objects that are named.
async fn objects(connection: &Connection, targets: &[Target], args: &Get) -> Result<(), Failure> {
    if connection.format.is_table() {
        return named_rows(connection, targets, args).await;
    }
    let (mut found, mut failures) = (Vec::new(), Failures::default());
    for target in targets {
        match connection.get::<Value>(target).await {
            Ok(object) => found.push((target.clone(), object)),
            Err(failure) => failures.add(Err(failure))?,
        }
    }
    if !found.is_empty() {
        show::objects(connection.format, found, false)?;
    }
    failures.end()
}

/// Prints a row for each object that is named: a table for each run of the same kind.
async fn named_rows(
    connection: &Connection,
    targets: &[Target],
    args: &Get,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for (index, same) in targets.chunk_by(|a, b| a.kind == b.kind).enumerate() {
        let mut all = Table::default();
        for target in same {
            match connection.named_table(target).await {
                Ok(table) => {
                    all.column_definitions = table.column_definitions;
                    all.rows.extend(table.rows);
                }
                Err(failure) => failures.add(Err(failure))?,
            }
        }
        if !all.rows.is_empty() {
            if index > 0 {
                terminal::print("\n")?;
            }
            whole_table(connection, args, (same[0].kind, &mut all))?;
        }
    }
    failures.end()
}

/// Prints a table of which all rows are there.
pub(super) fn whole_table(
    connection: &Connection,
    args: &Get,
    (kind, table): (KindId, &mut Table),
) -> Result<(), Failure> {
    sort_by(args, table)?;
    let look = look(connection, args);
    let mut columns = Columns::on(paper(kind, &look));
    let mut shown = Shown::of(&table.column_definitions, &look);
    fit(&mut shown, &columns, &table.rows);
    print_rows(&mut columns, &shown, &table.rows, (&look, true))
}

/// Sorts as the arguments say, where they do.
fn sort_by(args: &Get, table: &mut Table) -> Result<(), Failure> {
    let Some(order) = &args.sort_by else { return Ok(()) };
    order.sort(table).map_err(|headings| {
        Failure::usage("--sort-by: there is no such column")
            .hint(format!("the columns are {headings}"))
    })
}

/// Prints all that is selected as documents.
async fn documents(connection: &Connection, queries: &[Query]) -> Result<(), Failure> {
    let mut found = Vec::new();
    for query in queries {
        let (items, _) = connection.list::<Value>(query).await?;
        for mut object in items {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let target = Target::new(query.kind, name);
            // Within a list, too, each object says what it is.
            object["apiVersion"] = query.kind.api_version().into();
            object["kind"] = query.kind.info().kind.into();
            found.push((target, object));
        }
    }
    show::objects(connection.format, found, true)
}

/// Prints all that is selected as tables.
async fn tables(connection: &Connection, queries: Vec<Query>, args: &Get) -> Result<(), Failure> {
    let (are_many, is_all) = (queries.len() > 1, args.what.iter().all(|word| is_all(word)));
    let (mut is_first, mut empty) = (true, Vec::new());
    for mut query in queries {
        let mut look = look(connection, args);
        look.kind = are_many.then(|| target::word(query.kind));
        let rows = one_table(connection, &mut query, (args, &look), is_first).await?;
        is_first &= rows == 0;
        if rows == 0 {
            empty.push(nothing(&query));
        }
        if let Some(job) = args.job.as_deref().filter(|_| query.kind == KindId::Task) {
            empty.drain(..).for_each(|note| terminal::note(&note));
            tell_of_finished(connection, job, rows).await;
        }
    }
    // Of all kinds most are empty, as a rule.
    if is_all && !is_first {
        return Ok(());
    }
    if is_all && args.selector.is_none() && args.phase.is_none() {
        let place = place(if args.all_namespaces { "" } else { &connection.namespace });
        empty = vec![format!("Nothing found{place}.")];
    }
    if is_first && !args.all_namespaces {
        tell_nothing(connection, &empty).await;
        return Ok(());
    }
    empty.iter().for_each(|note| terminal::note(note));
    Ok(())
}

/// Says that nothing was found, or that the namespace is not there: a slip in its name looks the same. What
/// was asked for is answered already: that this cannot be looked up is no failure of it.
pub(super) async fn tell_nothing(connection: &Connection, notes: &[String]) {
    let namespace = &connection.namespace;
    let is_looked_into = notes.iter().any(|note| note.contains(&place(namespace)));
    let target = Target::new(KindId::Namespace, namespace);
    if is_looked_into && matches!(connection.find::<Value>(&target).await, Ok(None)) {
        terminal::note(&format!("There is no namespace {namespace}: see hctl get namespaces."));
        return;
    }
    notes.iter().for_each(|note| terminal::note(note));
}

/// ` in namespace default`; nothing where all are meant.
fn place(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") }
}

/// Prints the table of a kind, page by page, and tells how many rows there were.
async fn one_table(
    connection: &Connection,
    query: &mut Query,
    (args, look): (&Get, &Look),
    is_first: bool,
) -> Result<usize, Failure> {
    let mut columns = Columns::on(paper(query.kind, look));
    let mut rows = 0_usize;
    loop {
        let is_page_one = query.options.next.is_none();
        let mut table = connection.table_page(query).await?;
        // What is sorted is there as a whole.
        while args.sort_by.is_some() && query.options.next.is_some() {
            table.rows.extend(connection.table_page(query).await?.rows);
        }
        let is_last = query.options.next.is_none();
        if is_page_one && is_last {
            table::sort(query.kind, &mut table.rows);
        }
        // Of several kinds some have no such column.
        if let Err(failure) = sort_by(args, &mut table)
            && look.kind.is_none()
        {
            return Err(failure);
        }
        rows += table.rows.len();
        if !table.rows.is_empty() {
            if is_page_one && !is_first {
                terminal::print("\n")?;
            }
            let mut shown = shown(query, &table, look);
            // The columns of a table of many pages are the same on each.
            if is_page_one && is_last {
                fit(&mut shown, &columns, &table.rows);
            }
            print_rows(&mut columns, &shown, &table.rows, (look, is_page_one))?;
        }
        if is_last {
            return Ok(rows);
        }
    }
}

pub(super) fn shown(query: &Query, table: &Table, look: &Look) -> Shown {
    let with_namespace = query.kind.is_namespaced() && query.namespace.is_empty();
    Shown::of(&table.column_definitions, &Look { with_namespace, ..*look })
}

/// What the table of a kind is printed on. Lines are cut where that shortens a reason alone: not where
/// all columns or labels are asked for, nor those of kinds that give no reason, or events, which say
/// nothing else.
pub(super) fn paper(kind: KindId, look: &Look) -> Paper {
    let is_asked_for = look.is_wide || look.with_labels;
    let gives_reasons = columns_of(kind).last().is_some_and(|last| last.name == "WHY");
    Paper { folds: is_asked_for || !gives_reasons, ..terminal::paper() }
}

/// Makes the columns fit the terminal, unless all are asked for.
pub(super) fn fit(shown: &mut Shown, columns: &Columns, rows: &[Row]) {
    match columns.paper() {
        Paper { width: Some(width), folds: false, .. } => shown.fit(rows, width),
        Paper { width: Some(width), folds: true, .. } => {
            shown.leave_out_what_tells_nothing(rows, width);
        }
        Paper { width: None, .. } => (),
    }
}

pub(super) fn print_rows(
    columns: &mut Columns,
    shown: &Shown,
    rows: &[Row],
    (look, are_first): (&Look, bool),
) -> Result<(), Failure> {
    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| shown.cells(row)).collect();
    // Headings stand above what they are of: where columns move, they are said again.
    let are_due = are_first || cells.iter().any(|row| columns.widen_for(row));
    if are_due && !look.without_headings {
        cells.insert(0, shown.headings().to_vec());
    }
    terminal::print(&columns.lines(cells.iter().map(Vec::as_slice)))
}

/// `No tasks found in namespace default.`
pub(super) fn nothing(query: &Query) -> String {
    let plural = target::plural(query.kind);
    let selects = !query.options.labels.is_empty() || !query.options.fields.is_empty();
    if query.kind == KindId::Node && !selects {
        return "No node has joined. Start one with heliox agent --server URL".to_owned();
    }
    format!("No {plural} found{}.", place(&query.namespace))
}

/// Objects of finished tasks go after a while: says so where it matters. The tasks are printed already: that
/// their job cannot be looked up is no failure.
async fn tell_of_finished(connection: &Connection, job: &str, shown: usize) {
    match connection.find::<Job>(&Target::new(KindId::Job, job)).await {
        Ok(Some(found)) => say_what_is_hidden(connection, &found, shown),
        Ok(None) => {
            let namespace = &connection.namespace;
            terminal::note(&format!("There is no job {job} in namespace {namespace}."));
        }
        Err(_unknown) => (),
    }
}

/// Says that tasks of a job have ended that are not among the `shown` ones, where that is so.
pub(super) fn say_what_is_hidden(connection: &Connection, job: &Job, shown: usize) {
    let status = &job.status;
    if hides_finished(status, shown) {
        terminal::note(&format!(
            "{}/{}: {} of {} tasks succeeded, {} failed; finished tasks are removed after a while (keepTasks)",
            connection.namespace,
            job.name(),
            grouped(status.succeeded),
            grouped(status.total),
            grouped(status.failed)
        ));
    }
}

/// Whether tasks of the job have ended that are not among the `shown` ones.
fn hides_finished(status: &JobStatus, shown: usize) -> bool {
    let finished = [status.succeeded, status.failed, status.cancelled];
    usize::try_from(status.total).unwrap_or(usize::MAX) > shown && finished != [0; 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_never_as_asked_are_left_out_of_several() {
        let asked = |kinds: &[KindId], fields: &str| -> Vec<(KindId, String)> {
            let each = fields_of_each(kinds, Some(fields)).into_iter();
            each.map(|(kind, fields)| (kind, fields.unwrap_or_default())).collect()
        };
        let (job, set) = (KindId::Job, KindId::PartitionSet);
        let running = "status.phase=Running".to_owned();
        assert_eq!(asked(&[job, set], &running), [(job, running.clone())]);
        assert_eq!(asked(&[set], &running), [(set, running)], "the server says what is wrong");
        let slip = "status.phase=Runing".to_owned();
        assert_eq!(asked(&[job, set], &slip), [(job, slip.clone()), (set, slip)]);
        let others = asked(&[job, set], "status.phase!=Running");
        assert_eq!(others, [(job, "status.phase!=Running".to_owned()), (set, String::new())]);
    }

    #[test]
    fn what_is_not_shown_is_told_where_tasks_have_ended_whatever_the_counts() {
        let status = |total, succeeded, failed| JobStatus {
            total,
            succeeded,
            failed,
            ..JobStatus::default()
        };
        assert!(hides_finished(&status(10, 1, 0), 9));
        assert!(hides_finished(&status(10, 0, 1), 9));
        assert!(!hides_finished(&status(10, 1, 0), 10), "all are shown");
        assert!(!hides_finished(&status(10, 0, 0), 9), "they are not made yet");
        assert!(hides_finished(&status(u32::MAX, u32::MAX, u32::MAX), 9));
    }
}
