//! The commands: one small file for each.

mod apply;
mod attempts;
mod awaited;
mod change;
mod cluster;
mod debug;
mod delete;
mod deploy;
mod describe;
mod drain;
mod each;
mod events;
mod exec;
mod get;
mod logs;
mod mark;
mod namesakes;
mod picked;
mod rerun;
mod rollout;
mod rows;
mod run;
mod run_tasks;
mod scale;
mod show;
mod silent;
mod starting;
mod top;
mod version;
mod wait;
mod watch;

use api::duration::Duration;

use crate::args::{Args, Command, DebugCommand};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::rollout_args::Rollout;
use crate::verb::Verb;
use crate::{completion, terminal};
use change::change;

/// Runs the command.
///
/// # Errors
/// What went wrong, with the exit code and what to do.
pub async fn run(args: Args) -> Result<(), Failure> {
    let named_namespace = args.named_namespace();
    let Args { server, namespace, is_namespace_typed, output, command } = args;
    if let Command::Completion { shell } = command {
        return terminal::print_bytes(&completion::script(shell)?);
    }
    let mut connection = Connection::new(&server, &namespace, output)?;
    connection.named_namespace = named_namespace;
    connection.is_namespace_typed = is_namespace_typed;
    // From here on, because the time limit is for the whole command, whichever request takes long.
    let connection = connection.for_at_most(time_limit(&command));
    let outage = connection.outage().clone();
    let is_endless = is_endless(&command);
    let taken = namesakes::taken_by(&command);
    let done = async {
        match does(&connection, command).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(namesakes::explained(&connection, taken, failure).await),
        }
    };
    // The loss of the server is reported in one place, whatever the command is doing.
    tokio::select! {
        biased;
        done = done => done,
        unread = terminal::unread(), if is_endless => Err(unread),
        never = outage.tell(terminal::note) => match never {},
    }
}

/// The time limit of the command, if it has one.
fn time_limit(command: &Command) -> Option<Duration> {
    match command {
        Command::Apply(args) => args.timeout,
        Command::Deploy(args) => args.timeout,
        Command::Delete(args) => args.wait.then_some(args.timeout),
        Command::Wait(args) => Some(args.timeout),
        Command::Run(args) => args.until_end.timeout,
        Command::Rerun(args) => args.until_end.timeout,
        Command::Rollout(Rollout::Status(args)) => args.timeout,
        Command::Get(_)
        | Command::Describe(_)
        | Command::Logs(_)
        | Command::Events(_)
        | Command::Exec(_)
        | Command::Top(_)
        | Command::Cancel { .. }
        | Command::Scale(_)
        | Command::Rollout(_)
        | Command::History(_)
        | Command::Suspend { .. }
        | Command::Resume { .. }
        | Command::Evict { .. }
        | Command::Cordon { .. }
        | Command::Uncordon { .. }
        | Command::Drain(_)
        | Command::Label(_)
        | Command::Taint(_)
        | Command::Cluster(_)
        | Command::Debug(_)
        | Command::Version
        | Command::Completion { .. } => None,
    }
}

/// Whether a command only prints what happens until it is stopped. One that waits has an exit code
/// to report even if nobody reads its output.
fn is_endless(command: &Command) -> bool {
    match command {
        Command::Get(args) => args.watch,
        Command::Events(args) => args.watch,
        Command::Logs(args) => args.follow,
        Command::Rollout(_)
        | Command::History(_)
        | Command::Deploy(_)
        | Command::Apply(_)
        | Command::Describe(_)
        | Command::Delete(_)
        | Command::Exec(_)
        | Command::Top(_)
        | Command::Wait(_)
        | Command::Run(_)
        | Command::Rerun(_)
        | Command::Cancel { .. }
        | Command::Scale(_)
        | Command::Suspend { .. }
        | Command::Resume { .. }
        | Command::Evict { .. }
        | Command::Cordon { .. }
        | Command::Uncordon { .. }
        | Command::Drain(_)
        | Command::Label(_)
        | Command::Taint(_)
        | Command::Cluster(_)
        | Command::Debug(_)
        | Command::Version
        | Command::Completion { .. } => false,
    }
}

async fn does(connection: &Connection, command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply(args) => apply::apply(connection, args).await,
        Command::Deploy(args) => deploy::deploy(connection, args).await,
        Command::Get(args) => get::get(connection, args).await,
        Command::Describe(args) => describe::describe(connection, &args.targets).await,
        Command::Delete(args) => delete::delete(connection, args).await,
        Command::Logs(args) => logs::logs(connection, args).await,
        Command::Exec(args) => exec::exec(connection, args).await,
        Command::Top(args) => top::top(connection, args).await,
        Command::Events(args) => events::events(connection, args).await,
        Command::Wait(args) => wait::wait(connection, args).await,
        Command::Run(args) => run::run(connection, args).await,
        Command::Rerun(args) => rerun::rerun(connection, args).await,
        Command::Cancel { targets } => change(connection, Verb::Cancel, &targets).await,
        Command::Scale(args) => scale::scale(connection, args).await,
        Command::Rollout(what) => rollout::rollout(connection, what).await,
        Command::History(args) => rollout::history(connection, args).await,
        Command::Suspend { targets } => change(connection, Verb::Suspend, &targets).await,
        Command::Resume { targets } => change(connection, Verb::Resume, &targets).await,
        Command::Evict { tasks } => change(connection, Verb::Evict, &tasks).await,
        Command::Cordon { nodes } => change(connection, Verb::Cordon, &nodes).await,
        Command::Uncordon { nodes } => change(connection, Verb::Uncordon, &nodes).await,
        Command::Label(args) => mark::label(connection, args).await,
        Command::Taint(args) => mark::taint(connection, args).await,
        Command::Drain(args) => drain::drain(connection, args).await,
        Command::Cluster(args) => cluster::cluster(connection, args).await,
        Command::Debug(DebugCommand::Bundle { file }) => debug::bundle(connection, file).await,
        Command::Version => version::version(connection).await,
        Command::Completion { shell } => terminal::print_bytes(&completion::script(shell)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    /// Lines that make no sense, and a part of what is said about each.
    const REFUSED: &[(&str, &str)] = &[
        ("get frobs", "there is no kind \"frobs\""),
        ("get job/a -l x=y", "cannot be filtered as well"),
        ("get job/a -A", "cannot be filtered as well"),
        ("get job/a --phase Failed", "cannot be filtered as well"),
        ("get job/a --field-selector metadata.name=a", "cannot be filtered as well"),
        ("get task/a --job j", "cannot be filtered as well"),
        ("get jobs --job j", "--job selects tasks, not jobs"),
        ("get task/a --job j --run 1", "cannot be filtered as well"),
        ("get tasks --run 1", "--run selects among the runs of one job"),
        ("get runs --run 1", "--run is the number of a job's run"),
        ("get jobs --job j --run 1", "--run selects tasks"),
        ("get jobs --phase Faild", "jobs have no phase \"Faild\""),
        ("get jobs --field-selector status.frob=1", "status.frob"),
        ("describe job/a -o yaml", "describe prints text"),
        ("describe a", "there is no kind \"a\""),
        ("describe job/a b", "names no object"),
        ("describe job", "which job?"),
        ("describe job/A_b", "no job can be called \"A_b\""),
        ("logs job/a job/b", "are more than one object"),
        ("logs node/a", "nodes have no logs"),
        ("exec job/a -- ls", "job/a is not one"),
        ("events job/A_b", "no job can be called \"A_b\""),
        ("top nodes job/a", "job/a is not a node"),
        ("top tasks node/a", "node/a is not a task"),
        ("run job/a", "job/a"),
        ("run w day=1", "\"day=1\" is a parameter, and needs -p before it"),
        ("rerun run w-1 day=1", "\"day=1\" is a parameter, and needs -p before it"),
        ("rerun job/j --name again", "job/j runs again under its own name"),
        ("run w -p a=1 -p a=2", "--param a is given twice"),
        ("wait node/a --for succeeded", "node"),
        ("cancel node/a", "node/a cannot be cancelled"),
        ("suspend task/a", "task/a cannot be suspended"),
        ("resume node/a", "node/a cannot be resumed"),
        ("evict job/a", "job/a cannot be evicted"),
        ("rollout status job/a", "job/a has no rollouts"),
        ("rollout pause job/a", "job/a has no rollouts"),
        ("rollout undo a b", "are more than one object"),
        ("history job/a", "job/a has no rollouts"),
        ("cordon job/a", "job/a cannot be cordoned"),
        ("uncordon job/a", "job/a cannot be uncordoned"),
        ("drain job/a", "job/a cannot be drained"),
        ("taint job/a b:NoSchedule", "job/a cannot be tainted"),
        ("taint a", "no change is named"),
        ("label node/a b", "\"b\" names no object"),
    ];

    /// No server is running here. What is refused before a request says why; anything else says
    /// that no server answers.
    #[tokio::test]
    async fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let nothing = file("nothing.yaml", "# nothing\n");
        let generated = file(
            "generated.yaml",
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: { generateName: j- }\n\
             spec: { template: { image: x } }\n",
        );
        let of_files = [
            (format!("apply -f {nothing}"), "there is no manifest in what -f names"),
            (format!("apply -f {nothing}.not"), "nothing.yaml.not"),
            (format!("delete -f {generated}"), "a Job without a name"),
        ];
        let of_files = of_files.iter().map(|(line, part)| (line.as_str(), *part));
        for (line, part) in REFUSED.iter().copied().chain(of_files) {
            let words = ["hctl", "--server", "http://127.0.0.1:1"];
            let args = Args::of_line(words.into_iter().chain(line.split(' '))).unwrap();
            let failure = run(args).await.expect_err(line);
            assert!(failure.message.contains(part), "{line}: {}", failure.message);
            assert!(!failure.is_last, "something was asked by {line}");
        }
        for server in ["https://a", "a:7070", "http://a:0"] {
            let args = Args::of_line(["hctl", "--server", server, "version"]).unwrap();
            let failure = run(args).await.expect_err(server);
            assert_eq!(failure.code, Code::Error);
            assert!(failure.message.starts_with("--server: "), "{}", failure.message);
        }
    }
}
