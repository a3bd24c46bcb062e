//! `hctl wait`, and `--wait` of other commands: watches until every outcome is certain.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use api::watch::WatchEventType;
use api::{KindId, WorkflowRun};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::show;
use crate::args::Wait;
use crate::connection::{Connection, LOOK_MIN, Query};
use crate::failure::Failure;
use crate::following::{Following, Seen};
use crate::format::Format;
use crate::goal::{self, Goal};
use crate::outage::Lost;
use crate::progress::{NamespacedTarget, Progress};
use crate::target::Target;
use crate::waiting::{Answer, Waited, outcome};
use crate::{output, target, terminal};

pub(super) async fn wait(connection: &Connection, args: Wait) -> Result<(), Failure> {
    let targets = target::several(&args.targets)?;
    if let Some(why) = targets.iter().find_map(|it| goal::impossible(it.kind, args.goal)) {
        return Err(Failure::usage(why));
    }
    let waited = |target| Waited::new(target, connection.namespace.clone(), args.goal);
    let all = targets.into_iter().map(waited).collect();
    wait_for(connection, all, args.goal).await
}

/// What is waited for after objects of a kind were applied; nothing for kinds that only hold data.
pub(super) fn goal_of(kind: KindId) -> Option<Goal> {
    match kind {
        KindId::Job | KindId::Workflow | KindId::WorkflowRun => Some(Goal::Succeeded),
        KindId::Service => Some(Goal::Ready),
        KindId::Namespace
        | KindId::ConfigMap
        | KindId::Secret
        | KindId::Event
        | KindId::Lease
        | KindId::Node
        | KindId::NodeLease
        | KindId::CompletionChunk
        | KindId::PartitionSet
        | KindId::TaskTemplate
        | KindId::Task => None,
    }
}

/// Least time between two progress lines if the output is not a terminal.
const PERIOD: Duration = Duration::from_secs(10);

/// Waits until it is certain for each object whether it reaches `goal`, and reports each as soon as
/// it is. The command's time limit applies.
///
/// # Errors
/// Some will not reach it, do not exist, or the time is up.
pub(super) async fn wait_for(
    connection: &Connection,
    all: Vec<Waited>,
    goal: Goal,
) -> Result<(), Failure> {
    let until = connection.until();
    // An object that is named twice counts once.
    let count = all.iter().map(key_of).collect::<BTreeSet<_>>().len();
    // Without waiting time, or with errors as JSON, only the outcome is printed.
    let is_patient = until.is_none_or(|until| until > Instant::now());
    let is_told = is_patient && connection.format != Format::Json;
    let standings = Rc::new(Standings { is_told, progress: RefCell::new(Progress::of(count)) });
    let mut groups: BTreeMap<(KindId, String), Group> = BTreeMap::new();
    for waited in all.into_iter().map(|waited| waited.seen_from(&connection.namespace)) {
        let place = (waited.target().kind, waited.namespace().to_owned());
        let group =
            groups.entry(place).or_insert_with(|| Group::new(connection, &waited, &standings));
        group.open.insert(waited.target().name.clone(), waited);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.is_one_of_several = count > 1);
    let ended = tokio::select! {
        ended = certain(connection, &mut groups, until) => ended,
        never = standings.tell() => match never {},
    };
    for group in &mut groups {
        match &ended {
            Ok(Some(Late { lost })) => group.is_late(lost.as_ref()),
            Ok(None) | Err(_) => group.is_left(),
        }
    }
    ended?;
    let told = groups.iter_mut().find_map(|group| group.unprinted.take()).map_or(Ok(()), Err);
    outcome(count, goal, groups.into_iter().flat_map(|group| group.failures).collect()).and(told)
}

/// The time was up before everything was certain.
struct Late {
    /// Whether the server was lost at that time.
    lost: Option<Lost>,
}

/// Looks at all objects and continues until everything is certain or the time is up.
async fn certain(
    connection: &Connection,
    groups: &mut [Group],
    until: Option<Instant>,
) -> Result<Option<Late>, Failure> {
    let look = until.map(|until| until.max(Instant::now() + LOOK_MIN));
    let looking = async {
        // One after the other, so that what is certain at once is always printed in the same order.
        for group in groups.iter_mut() {
            group.look().await?;
        }
        Ok::<_, Failure>(())
    };
    let began = Instant::now();
    match in_time(connection, look, looking).await {
        Ok(looked) => looked?,
        Err(Late { lost: None }) => return Ok(Some(unanswered(connection, began).await)),
        Err(late) => return Ok(Some(late)),
    }
    let following = try_join_all(groups.iter_mut().map(Group::follow));
    match in_time(connection, until, following).await {
        Ok(followed) => followed.map(|_| None),
        Err(late) => Ok(Some(late)),
    }
}

/// The time was up before the server answered.
async fn unanswered(connection: &Connection, asked: Instant) -> Late {
    let for_secs = asked.elapsed().as_secs();
    let why = match connection.accepts().await {
        true => "it accepts connections and does not answer",
        false => "it accepts no connection",
    };
    Late { lost: Some(Lost { server: connection.server.clone(), for_secs, why: why.to_owned() }) }
}

/// The result of something if it is there before `until`. Whether the server is lost is determined
/// before waiting ends, because then it is forgotten.
async fn in_time<A>(
    connection: &Connection,
    until: Option<Instant>,
    doing: impl Future<Output = A>,
) -> Result<A, Late> {
    let Some(until) = until else { return Ok(doing.await) };
    tokio::pin!(doing);
    tokio::select! {
        biased;
        done = &mut doing => Ok(done),
        () = tokio::time::sleep_until(until) => Err(Late { lost: connection.outage().lost() }),
    }
}

/// The state of all objects whose outcome is not certain, for the progress display.
struct Standings {
    /// Whether progress lines are printed if the output is not a terminal.
    is_told: bool,
    progress: RefCell<Progress>,
}

impl Standings {
    fn show(&self, waited: &Waited) {
        let mut progress = self.progress.borrow_mut();
        let line = progress.see(key_of(waited), (waited.phase(), waited.standing()));
        if terminal::is_looked_at() {
            terminal::progress(&progress.line());
        } else if let Some(line) = line.filter(|_| self.is_told) {
            terminal::note(&output::printable(&line));
        }
    }

    fn forget(&self, waited: &Waited) {
        self.progress.borrow_mut().forget(&key_of(waited));
    }

    /// Prints what has changed from time to time, if the output is not a terminal.
    async fn tell(&self) -> Infallible {
        loop {
            tokio::time::sleep(PERIOD).await;
            let lines = self.progress.borrow_mut().due();
            if self.is_told && !terminal::is_looked_at() {
                lines.iter().for_each(|line| terminal::note(&output::printable(line)));
            }
        }
    }
}

fn key_of(waited: &Waited) -> NamespacedTarget {
    (waited.namespace().to_owned(), waited.target().clone())
}

/// The awaited objects of one kind and namespace: they need one watch, and one more for the runs of
/// applied workflows.
struct Group {
    connection: Connection,
    kind: KindId,
    /// Objects whose outcome is not certain, by name.
    open: BTreeMap<String, Waited>,
    /// The failures of those that did not reach the goal.
    failures: Vec<Failure>,
    /// Why an outcome could not be printed. The others are awaited all the same.
    unprinted: Option<Failure>,
    /// The resourceVersion up to which it has looked.
    version: String,
    /// Follows the runs of applied workflows, once one of them is known.
    runs: Option<Following>,
    is_one_of_several: bool,
    standings: Rc<Standings>,
}

impl Group {
    fn new(connection: &Connection, first: &Waited, standings: &Rc<Standings>) -> Self {
        Self {
            // The time limit is for all requests together and applied elsewhere.
            connection: connection.within(first.namespace()).without_limit(),
            kind: first.target().kind,
            open: BTreeMap::new(),
            failures: Vec::new(),
            unprinted: None,
            version: String::new(),
            runs: None,
            is_one_of_several: false,
            standings: Rc::clone(standings),
        }
    }

    /// What to watch: one object, or all of its kind if there are several.
    fn query(&self) -> Query {
        let fields = match self.open.keys().next() {
            Some(name) if self.open.len() == 1 => format!("metadata.name={name}"),
            _ => String::new(),
        };
        self.connection.query(self.kind, String::new(), fields)
    }

    /// Looks at all existing objects.
    async fn look(&mut self) -> Result<(), Failure> {
        let query = self.query();
        let list = || self.connection.list::<Value>(&query);
        let (found, version) = self.connection.insist(list).await?;
        self.version = version;
        let found: BTreeMap<&str, &Value> =
            found.iter().map(|object| (name_of(object), object)).collect();
        let names: Vec<String> = self.open.keys().cloned().collect();
        for name in names {
            self.see(&name, found.get(name.as_str()).copied()).await?;
        }
        Ok(())
    }

    /// Continues until everything is certain.
    async fn follow(&mut self) -> Result<(), Failure> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut following = Following::new(self.connection.client(), self.query(), &self.version);
        let (mut link, mut link_of_runs) = (self.connection.link(), self.connection.link());
        while !self.open.is_empty() {
            let (seen, is_of_run) = tokio::select! {
                seen = following.next() => (seen, false),
                seen = next_of(&mut self.runs) => (seen, true),
            };
            let link = if is_of_run { &mut link_of_runs } else { &mut link };
            match seen.map_err(|error| self.connection.failure(&error))? {
                Seen::Change(change, object) => {
                    let is_there = change != WatchEventType::Deleted;
                    let (name, now) = (name_of(&object), is_there.then_some(&object));
                    if is_of_run {
                        self.see_run(name, now).await?;
                    } else {
                        self.see(name, now).await?;
                    }
                }
                Seen::Broken(why) => link.broken(&why),
                Seen::Back => link.back(),
                Seen::Missed if is_of_run => {
                    link.back();
                    self.look_at_runs().await?;
                }
                Seen::Missed => {
                    link.back();
                    self.look().await?;
                    following.resume(&self.version);
                }
            }
        }
        Ok(())
    }

    /// Looks at one object, and reports it if its outcome is certain.
    async fn see(&mut self, name: &str, object: Option<&Value>) -> Result<(), Failure> {
        let needs_runs =
            |object: &&Value| self.open.get(name).is_some_and(|it| it.needs_runs(object));
        let (runs, version) = match object.filter(needs_runs) {
            Some(_) => self.runs(name).await?,
            None => (Vec::new(), String::new()),
        };
        let is_alone = self.open.len() == 1;
        let Some(waited) = self.open.get_mut(name) else { return Ok(()) };
        let answer = if waited.is_applied_workflow() {
            waited.see_applied(object, &runs)
        } else {
            waited.see(object)
        };
        if let (Some(run), None) = (waited.run(), &self.runs) {
            let query = query_of_runs(&self.connection, is_alone.then_some(run));
            self.runs = Some(Following::new(self.connection.client(), query, &version));
        }
        self.settle(name, answer, object).await
    }

    /// Looks at a run, which may belong to an applied workflow.
    async fn see_run(&mut self, run: &str, object: Option<&Value>) -> Result<(), Failure> {
        let is_its = |waited: &&mut Waited| waited.run().is_some_and(|it| it.name == run);
        let Some(waited) = self.open.values_mut().find(is_its) else { return Ok(()) };
        let (name, answer) = (waited.target().name.clone(), waited.see_run(object));
        self.settle(&name, answer, None).await
    }

    /// Looks at all runs of applied workflows.
    async fn look_at_runs(&mut self) -> Result<(), Failure> {
        let known: Vec<Target> = self.open.values().filter_map(Waited::run).cloned().collect();
        let only = known.first().filter(|_| self.open.len() == 1);
        let query = query_of_runs(&self.connection, only);
        let list = || self.connection.list::<Value>(&query);
        let (found, version) = self.connection.insist(list).await?;
        for run in known {
            let object = found.iter().find(|object| name_of(object) == run.name);
            self.see_run(&run.name, object).await?;
        }
        self.runs = Some(Following::new(self.connection.client(), query, &version));
        Ok(())
    }

    /// Reports the outcome of an object if it is certain.
    async fn settle(
        &mut self,
        name: &str,
        answer: Option<Answer>,
        object: Option<&Value>,
    ) -> Result<(), Failure> {
        let Some(waited) = self.open.get(name) else { return Ok(()) };
        let is_applied = waited.is_applied_workflow();
        let failure = match answer {
            None => {
                self.standings.show(waited);
                return Ok(());
            }
            Some(Answer::Met) => None,
            Some(Answer::Nothing(why)) => {
                if self.standings.is_told {
                    terminal::note(&format!("nothing to wait for: {why}"));
                }
                self.is_certain(name);
                return Ok(());
            }
            Some(Answer::Never(failure)) => Some(failure),
            // The workflow will show the result of a run that it has not noticed yet.
            Some(Answer::NoRun(_)) if self.has_run(name).await? => return Ok(()),
            Some(Answer::NoRun(failure)) => Some(failure),
        };
        // The document that is printed at the end is that of the workflow, so it must show how its
        // run ended.
        if waited.is_behind_its_run() && self.connection.format.is_document() {
            return Ok(());
        }
        if let Some(object) = object.filter(|_| self.kind == KindId::Workflow && !is_applied)
            && self.is_behind(name, object).await?
        {
            return Ok(());
        }
        let Some(waited) = self.is_certain(name) else { return Ok(()) };
        match failure {
            None => self.is_met(&waited, object),
            Some(failure) => {
                self.is_missed(&waited, object);
                self.fails(failure);
            }
        }
        Ok(())
    }

    /// The outcome of an object is certain. The document of one that this command started is due.
    fn is_certain(&mut self, name: &str) -> Option<Waited> {
        let waited = self.open.remove(name)?;
        self.standings.forget(&waited);
        self.print_started(&waited);
        Some(waited)
    }

    /// Prints an object that has reached the goal, unless that was printed before.
    fn is_met(&mut self, waited: &Waited, object: Option<&Value>) {
        let format = self.connection.format;
        let is_printed = waited.what_was_started().is_some() && !format.is_table();
        if is_printed {
            return;
        }
        let object = self.document(object.map_or_else(|| waited.identity(), Value::clone));
        self.print(waited, object);
    }

    /// Prints the document of an object that has not reached the goal, if it exists: it says why.
    fn is_missed(&mut self, waited: &Waited, object: Option<&Value>) {
        if let Some(object) = object.filter(|_| waited.what_was_started().is_none())
            && self.connection.format.is_document()
        {
            self.print(waited, self.document(object.clone()));
        }
    }

    /// Prints the final document of an object that this command started. Its name was printed at
    /// once.
    fn print_started(&mut self, waited: &Waited) {
        if let Some(started) = waited.what_was_started()
            && self.connection.format.is_document()
        {
            self.print(waited, self.document(started.clone()));
        }
    }

    fn print(&mut self, waited: &Waited, object: Value) {
        let word = waited.goal().word();
        let told = show::done(self.connection.format, waited.target(), word, object);
        self.unprinted = self.unprinted.take().or(told.err());
    }

    /// An object as a document of its own: items of a list lack their kind.
    fn document(&self, object: Value) -> Value {
        let (version, kind) = (self.kind.api_version(), self.kind.info().kind);
        let mut document = json!({ "apiVersion": version, "kind": kind });
        if let (Some(fields), Value::Object(object)) = (document.as_object_mut(), object) {
            fields.extend(object);
        }
        document
    }

    async fn has_run(&self, workflow: &str) -> Result<bool, Failure> {
        Ok(!self.runs(workflow).await?.0.is_empty())
    }

    /// Whether a workflow still shows the state of an earlier run: its controller notices a new run
    /// slightly later.
    async fn is_behind(&self, name: &str, workflow: &Value) -> Result<bool, Failure> {
        Ok(goal::is_behind(workflow, &self.runs(name).await?.0))
    }

    /// All runs of a workflow, and their resourceVersion.
    async fn runs(&self, workflow: &str) -> Result<(Vec<WorkflowRun>, String), Failure> {
        let fields = format!("spec.workflow={workflow}");
        let query = self.connection.query(KindId::WorkflowRun, String::new(), fields);
        self.connection.insist(|| self.connection.list(&query)).await
    }

    fn is_late(&mut self, lost: Option<&Lost>) {
        for mut waited in std::mem::take(&mut self.open).into_values() {
            self.print_started(&waited);
            match waited.judge_run() {
                // Only the document of the workflow was not up to date yet.
                Some(Answer::Met) => (),
                Some(Answer::Never(failure)) => self.fails(failure),
                Some(Answer::NoRun(_) | Answer::Nothing(_)) | None => {
                    self.fails(waited.late(lost));
                }
            }
        }
    }

    /// The server refused the watch, so waiting ends. The documents of what was started are
    /// printed.
    fn is_left(&mut self) {
        for waited in std::mem::take(&mut self.open).into_values() {
            self.print_started(&waited);
        }
    }

    fn fails(&mut self, failure: Failure) {
        if self.is_one_of_several {
            terminal::note(&failure.message);
        }
        self.failures.push(failure);
    }
}

/// The next event of followed runs; never resolves if none are followed.
async fn next_of(runs: &mut Option<Following>) -> Result<Seen, client::Error> {
    match runs {
        Some(runs) => runs.next().await,
        None => std::future::pending().await,
    }
}

/// The only awaited run, or all runs of the namespace.
fn query_of_runs(connection: &Connection, only: Option<&Target>) -> Query {
    let fields = only.map(|run| format!("metadata.name={}", run.name)).unwrap_or_default();
    connection.query(KindId::WorkflowRun, String::new(), fields)
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
