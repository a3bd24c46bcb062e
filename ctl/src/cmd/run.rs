//! `hctl run`: starts a run of a workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use api::workflow::check_params;
use api::workflow_run::WorkflowRunSpec;
use api::{Kind as _, KindId, Violation, Workflow, WorkflowRun, labels, names};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::show;
use super::wait::wait_for;
use crate::args::{Run, UntilEnd};
use crate::connection::Connection;
use crate::failure::{Code, Failure, is_outrun};
use crate::goal::Goal;
use crate::hints;
use crate::target::{self, Target};
use crate::waiting::Waited;

/// How long a workflow may take to show the end of its run, and how often it is read.
const WORKFLOW_WAIT: Duration = Duration::from_secs(1);
const WORKFLOW_INTERVAL: Duration = Duration::from_millis(20);

/// How many numbers are tried for a run's name if others take them at the same time.
const NUMBERS_TRIED: u32 = 32;

pub(super) async fn run(connection: &Connection, args: Run) -> Result<(), Failure> {
    no_parameters("run", &args.workflow)?;
    let workflow = target::only_one(&args.workflow, Some(KindId::Workflow))?;
    if workflow.kind != KindId::Workflow {
        let message = format!("{workflow} is not a workflow");
        return Err(Failure::usage(message)
            .hint("list them with hctl get workflows; to repeat a job or a run: hctl rerun"));
    }
    let params = named_once(args.params)?;
    // A run of a workflow that does not exist would wait for it.
    let found: Workflow = connection.get(&workflow).await?;
    start(connection, &found, (args.name.as_deref(), params), &args.until_end).await
}

/// Refuses parameters among the words that name an object: they need their flag.
pub(super) fn no_parameters(verb: &str, words: &[String]) -> Result<(), Failure> {
    let is_param = |word: &&String| word.contains('=');
    let params: Vec<String> =
        words.iter().filter(is_param).map(|param| format!(" -p {}", hints::word(param))).collect();
    let Some(first) = words.iter().find(is_param) else { return Ok(()) };
    let names: Vec<&str> = words.iter().filter(|it| !is_param(it)).map(String::as_str).collect();
    let short: String = first.chars().take(target::NAMED_CHARS_MAX).collect();
    let failure = Failure::usage(format!("{short:?} is a parameter, and needs -p before it"));
    Err(failure.hint(format!("write hctl {verb} {}{}", names.join(" "), params.concat())))
}

/// Parameters by name.
pub(super) fn named_once(
    given: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut params: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in given {
        if params.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!("--param {key} is given twice")));
        }
    }
    Ok(params)
}

/// Starts a run of a workflow with the given name or the next number.
pub(super) async fn start(
    connection: &Connection,
    workflow: &Workflow,
    (name, params): (Option<&str>, BTreeMap<String, String>),
    until_end: &UntilEnd,
) -> Result<(), Failure> {
    if workflow.is_deleting() {
        let message =
            format!("workflow/{} is being deleted and starts no more runs", workflow.name());
        return Err(Failure::new(message)
            .code(Code::Conflict)
            .hint("apply it again once it is gone"));
    }
    // A run with parameters that the workflow does not have would fail.
    parameters_fit(workflow, &params)?;
    let created = create(connection, workflow, name, params).await?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default();
    let target = Target::new(KindId::WorkflowRun, name);
    started(connection, &target, ("created", created), until_end).await
}

/// Reports the new run, and waits for its end if requested.
pub(super) async fn started(
    connection: &Connection,
    target: &Target,
    (what, object): (&str, Value),
    until_end: &UntilEnd,
) -> Result<(), Failure> {
    let goal = Goal::Succeeded;
    let waited = Waited::new(target.clone(), connection.namespace.clone(), goal);
    let waited = waited.started(object.clone());
    let workflow = object["spec"]["workflow"].as_str().map(str::to_owned);
    // One document is enough, and a name is printed once.
    let told = if until_end.wait && connection.format.is_document() {
        Ok(())
    } else {
        show::done(connection.format, target, what, object)
    };
    if !until_end.wait {
        return told;
    }
    let ended = wait_for(connection, vec![waited], goal).await;
    let is_certain = ended.as_ref().err().is_none_or(|failure| failure.code == Code::Failed);
    if let Some(workflow) = workflow.filter(|_| is_certain) {
        let shown = is_shown(connection, &workflow, &target.name);
        let _late = timeout(WORKFLOW_WAIT, shown).await;
    }
    ended.and(told)
}

/// Waits until the workflow shows how its run has ended. Its controller notices that slightly
/// later; otherwise a user who looks at both next would see a contradiction.
async fn is_shown(connection: &Connection, workflow: &str, run: &str) {
    let workflow = Target::new(KindId::Workflow, workflow);
    // A workflow that cannot be read or is gone will not show it.
    while let Ok(Some(found)) = connection.find::<Workflow>(&workflow).await {
        let status = &found.status;
        let is_open = status.phase.is_some_and(|phase| !phase.is_final());
        if status.last_run.as_deref() != Some(run) || !is_open {
            return;
        }
        sleep(WORKFLOW_INTERVAL).await;
    }
}

/// Creates a run that belongs to its workflow, like runs that the workflow starts by itself.
/// Without a name it gets the next free number: `load-7` after `load-6`.
async fn create(
    connection: &Connection,
    workflow: &Workflow,
    name: Option<&str>,
    params: BTreeMap<String, String>,
) -> Result<Value, Failure> {
    let spec =
        WorkflowRunSpec { workflow: workflow.name().to_owned(), params, ..Default::default() };
    let mut number = workflow.status.last_run_number;
    if name.is_none() {
        let of = labels::selector(labels::WORKFLOW, workflow.name());
        let mut runs = connection.query(KindId::WorkflowRun, of, String::new());
        loop {
            // As table rows, because each run contains a copy of its workflow.
            let page = connection.table_page(&mut runs).await?;
            let labels = page.rows.iter().filter_map(|row| row.object.metadata.labels.as_ref());
            number = labels.filter_map(run_number).fold(number, u32::max);
            if runs.options.next.is_none() {
                break;
            }
        }
    }
    for _ in 0..NUMBERS_TRIED {
        // After the largest number, the first free one is used.
        number = number.checked_add(1).unwrap_or(1);
        let numbered = || names::job_in_run(workflow.name(), &number.to_string());
        let named = name.map_or_else(numbered, str::to_owned);
        let own = number.to_string();
        let label = name.is_none().then_some((labels::RUN_NUMBER, own.as_str()));
        let run = WorkflowRun::new(&connection.namespace, &named, spec.clone())
            .with_labels([(labels::WORKFLOW, workflow.name())].into_iter().chain(label))
            .with_controller(workflow.as_controller());
        let object = serde_json::to_value(&run).map_err(|error| Failure::new(error.to_string()))?;
        let place = (KindId::WorkflowRun, connection.namespace.as_str());
        match connection.create(place, &object, "").await {
            Ok(created) => return Ok(created),
            // Somebody else has taken the number; try the next one.
            Err(error) if name.is_none() && is_outrun(&error) => (),
            Err(error) => return Err(connection.failure(&error)),
        }
    }
    let message =
        format!("{NUMBERS_TRIED} names of runs in a row were taken, the last is {number}");
    Err(Failure::new(message).code(Code::Conflict).hint("name the run with --name"))
}

/// The number that Heliox gave a run. A name that a user chose may end with a number as well, such
/// as a date, which does not count.
fn run_number(labels: &BTreeMap<String, String>) -> Option<u32> {
    labels.get(labels::RUN_NUMBER)?.parse().ok()
}

/// Whether a workflow accepts these parameters.
fn parameters_fit(workflow: &Workflow, given: &BTreeMap<String, String>) -> Result<(), Failure> {
    let Err(violations) = check_params(&workflow.spec, given) else { return Ok(()) };
    let one = |it: &Violation| it.to_string().replacen("spec.params.", "--param ", 1);
    let all: Vec<String> = violations.iter().map(one).collect();
    Err(Failure::usage(all.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_gives_the_parameters_that_the_workflow_takes() {
        let workflow: Workflow = serde_json::from_value(json!({
            "metadata": {"name": "w"},
            "spec": {"params": [{"name": "date"}, {"name": "word", "default": "x"}], "jobs": []},
        }))
        .unwrap();
        let check = |keys: &[&str]| {
            let given = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
            parameters_fit(&workflow, &given).err().map(|it| it.message).unwrap_or_default()
        };
        assert_eq!(check(&["date"]), "");
        assert_eq!(check(&["date", "word"]), "");
        let missing = "--param date: a value is required (it has no default)";
        assert_eq!(check(&[]), missing);
        let unknown =
            "--param wird: the workflow has no parameter of this name (did you mean word?)";
        assert_eq!(check(&["date", "wird"]), unknown);
    }
}
