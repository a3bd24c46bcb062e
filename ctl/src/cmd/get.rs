//! `hctl get`: lists objects as tables or documents, once or as they change.

use api::selector::FieldSelector;
use api::{Job, KindId};
use serde_json::Value;

use super::each::Failures;
use super::rows::{
    fit, look, nothing, paper, place, print_rows, say_what_is_hidden, shown, sort_by, tell_nothing,
    whole_table,
};
use super::{run_tasks, show, watch};
use crate::args::Get;
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::format::Format;
use crate::output::Columns;
use crate::table::{self, Look, Table};
use crate::target::{self, Target};
use crate::{arguments, terminal};

/// The kinds that `get all` shows.
fn all() -> Vec<KindId> {
    KindId::ALL.into_iter().filter(|kind| kind.info().in_all).collect()
}

pub(super) async fn get(connection: &Connection, args: Get) -> Result<(), Failure> {
    let mut what = wanted(&args.what)?;
    // Of all kinds, those without this phase are left out.
    if let (What::Kinds(kinds), Some(phase), [all]) = (&mut what, &args.phase, args.what.as_slice())
        && is_all(all)
    {
        let any = kinds.iter().find_map(|kind| arguments::phase(*kind, phase).ok());
        if any.is_some() {
            kinds.retain(|kind| arguments::phase(*kind, phase).is_ok());
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
                // With `job,task NAME`, usually only one of the kinds has the name: a hint about it
                // would say nothing new.
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
        // An object that does not exist would never have an event, so report it.
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

/// Refuses flags for tables with other output formats.
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

/// The job of `--run`: a number alone does not tell which job's run is meant.
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

/// What to show: all objects of some kinds, or named objects.
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
        // `job,task NAME`: one object of each kind.
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

/// The field selector for each of several kinds. Kinds that can never match are left out, unless
/// none can: then it is probably an error, and the server reports it.
fn fields_of_each(kinds: &[KindId], fields: Option<&str>) -> Vec<(KindId, Option<String>)> {
    let as_given = || kinds.iter().map(|kind| (*kind, fields.map(str::to_owned))).collect();
    let selector: Option<FieldSelector> = fields.and_then(|fields| fields.parse().ok());
    let (Some(selector), [_, _, ..]) = (selector, kinds) else { return as_given() };
    let narrowed = |kind: &KindId| Some((*kind, Some(selector.narrowed(*kind)?.to_string())));
    let some: Vec<_> = kinds.iter().filter_map(narrowed).collect();
    if some.is_empty() { as_given() } else { some }
}

/// The query for one kind.
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
        fields.push(format!("status.phase={}", arguments::phase(kind, phase)?));
    }
    let fields = fields.join(",");
    // Each flag is a valid selector by itself; if the combination is not, the server says so.
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

/// Prints named objects.
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

/// Prints a row for each named object, with one table for consecutive objects of one kind.
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

/// Prints all selected objects as documents.
async fn documents(connection: &Connection, queries: &[Query]) -> Result<(), Failure> {
    let mut found = Vec::new();
    for query in queries {
        let (items, _) = connection.list::<Value>(query).await?;
        for mut object in items {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let target = Target::new(query.kind, name);
            // Items of a list lack these two fields.
            object["apiVersion"] = query.kind.api_version().into();
            object["kind"] = query.kind.info().kind.into();
            found.push((target, object));
        }
    }
    show::objects(connection.format, found, true)
}

/// Prints all selected objects as tables.
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
    // Of `all`, most kinds are usually empty.
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

/// Prints the table of a kind page by page. Returns the number of rows.
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
        // Sorting needs all rows.
        while args.sort_by.is_some() && query.options.next.is_some() {
            table.rows.extend(connection.table_page(query).await?.rows);
        }
        let is_last = query.options.next.is_none();
        if is_page_one && is_last {
            table::sort(query.kind, &mut table.rows);
        }
        // Of several kinds, some may not have the column.
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
            // If there are several pages, all must have the same columns.
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

/// Mentions that finished tasks are removed after a while, if that explains missing rows. The tasks
/// are printed already, so it is no failure if the job cannot be read.
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
}
