//! Commands of kubectl, docker, nomad and argo, and what to type instead. Pure.

use api::KindId;
use api::schema::neighbours_word;
use api::violation::nearest;
use clap::CommandFactory as _;

use crate::args::Args;
use crate::foreign_flags::{FLAGS, parameter};
use crate::{hints, target};

/// The hctl equivalent of another tool's word.
#[derive(Debug, Clone, Copy)]
enum Ours {
    /// This command does the same.
    Same(&'static str),
    /// A sentence that says what to do instead.
    Instead(&'static str),
}

use Ours::{Instead, Same};

const EDIT: Ours =
    Instead("change the manifest, then hctl apply -f FILE; to get it: hctl get KIND/NAME -o yaml");
const PORTS: Ours =
    Instead("tasks are reached at their node's address: hctl get tasks shows their ports");
const IMAGES: Ours =
    Instead("a node pulls the image of a task by itself: name it in spec.template.image");
const DRAIN: Ours = Same("drain NODE");
const SERVERS: Ours = Instead(
    "hctl has no configuration file: name the server with --server or HELIOX_SERVER, and the \
     namespace with -n or HELIOX_NAMESPACE",
);
const NO_USERS: Ours =
    Instead("there are no users yet: whoever reaches the apiserver may do anything");
const SHELL: Ours = Same("exec -it TASK -- sh");
const CHECK: Ours = Same("apply -f FILE --dry-run");
const APPLY: Ours = Same("apply -f FILE");
const DELETE: Ours = Same("delete KIND/NAME");
const DESCRIBE: Ours = Same("describe KIND/NAME");
const NODES: Ours = Same("get nodes");

/// Commands of other tools that have two words.
const TWO_WORDS: [(&str, &str, Ours); 23] = [
    ("alloc", "exec", SHELL),
    ("alloc", "logs", Same("logs TASK")),
    ("alloc", "restart", Same("evict TASK")),
    ("alloc", "status", Same("describe task/TASK")),
    ("alloc", "stop", Same("evict TASK")),
    ("container", "ls", Same("get tasks")),
    ("cron", "list", Same("get workflows")),
    ("job", "dispatch", Same("run WORKFLOW -p KEY=VALUE")),
    ("job", "inspect", Same("get job/JOB -o yaml")),
    ("job", "plan", CHECK),
    ("job", "restart", Same("rerun job/JOB")),
    ("job", "run", APPLY),
    ("job", "status", Same("describe job/JOB")),
    ("job", "stop", Same("cancel job/JOB")),
    ("job", "validate", CHECK),
    ("node", "drain", DRAIN),
    ("node", "eligibility", Same("cordon NODE")),
    ("node", "status", NODES),
    ("service", "rollback", Same("rollout undo service/SERVICE")),
    ("service", "scale", Same("scale service/SERVICE --replicas NUMBER")),
    ("service", "update", APPLY),
    (
        "system",
        "prune",
        Instead("what has ended is removed by itself: keepTasks of jobs, history of workflows"),
    ),
    ("template", "list", Same("get workflows")),
];

/// Commands of other tools.
const VERBS: [(&str, Ours); 91] = [
    ("abort", Same("cancel KIND/NAME")),
    ("agent", Instead("an agent is started on its host: heliox agent --server URL")),
    ("alloc", Same("get tasks")),
    ("annotate", EDIT),
    ("api-versions", Same("version")),
    (
        "attach",
        Instead(
            "to follow what a task prints: hctl logs -f TASK; for a shell: hctl exec -it TASK -- sh",
        ),
    ),
    ("auth", NO_USERS),
    ("autoscale", Instead("nothing is scaled by itself: hctl scale KIND/NAME --replicas NUMBER")),
    ("backup", Instead("run heliox backup beside the server: docs/backup.md")),
    ("bash", SHELL),
    ("build", IMAGES),
    ("certificate", NO_USERS),
    ("check", CHECK),
    ("cluster-info", Same("cluster")),
    (
        "compose",
        Instead("write a Service for each service, then hctl apply -f FILE: docs/coming-from.md"),
    ),
    ("config", SERVERS),
    ("context", SERVERS),
    ("convert", Instead("docs/coming-from.md says what to write for the fields of another tool")),
    (
        "cp",
        Instead(
            "to read a file: hctl exec TASK -- cat PATH > FILE; to write one: hctl exec -i TASK -- sh -c 'cat > PATH' < FILE",
        ),
    ),
    ("create", APPLY),
    ("dashboard", Instead("there is no web interface: hctl get all --watch shows what happens")),
    ("destroy", DELETE),
    ("diff", CHECK),
    ("dispatch", Same("run WORKFLOW -p KEY=VALUE")),
    ("down", Same("delete -f FILE")),
    ("edit", EDIT),
    ("eval", DESCRIBE),
    (
        "explain",
        Instead(
            "docs/job.md, docs/template.md and docs/workflow.md describe the fields; hctl apply -f FILE --dry-run checks a manifest",
        ),
    ),
    ("expose", PORTS),
    ("images", IMAGES),
    ("info", Same("cluster")),
    ("init", Instead("write a manifest, such as manifests/hello.yaml, then hctl apply -f FILE")),
    ("inspect", DESCRIBE),
    ("install", APPLY),
    ("kill", Instead("hctl cancel job/JOB ends a job, hctl evict TASK restarts a task elsewhere")),
    ("kustomize", Instead("kustomize build DIR | hctl apply -f -")),
    ("lint", CHECK),
    ("list", Same("get KIND")),
    ("log", Same("logs TASK")),
    ("login", NO_USERS),
    ("ls", Same("get KIND")),
    ("monitor", Same("events --watch")),
    ("operator", Same("cluster")),
    ("patch", EDIT),
    ("pause", Same("suspend KIND/NAME")),
    ("plan", CHECK),
    ("port", PORTS),
    ("port-forward", PORTS),
    (
        "proxy",
        Instead(
            "the apiserver answers plain HTTP: curl http://127.0.0.1:7070/apis/heliox.dev/v1/jobs",
        ),
    ),
    ("ps", Same("get tasks")),
    ("pull", IMAGES),
    ("push", IMAGES),
    ("remove", DELETE),
    (
        "rename",
        Instead(
            "a name cannot be changed: apply the manifest under another name, then delete the old object",
        ),
    ),
    ("replace", APPLY),
    (
        "restart",
        Instead(
            "hctl rerun job/JOB runs a job again, hctl rollout restart SERVICE replaces all tasks of a \
             service, hctl evict TASK restarts a task elsewhere",
        ),
    ),
    ("restore", Instead("run heliox restore beside an empty store: docs/backup.md")),
    ("resubmit", Same("rerun run/RUN")),
    ("retry", Same("rerun KIND/NAME")),
    ("rm", DELETE),
    ("rmi", IMAGES),
    ("rollback", Same("rollout undo service/SERVICE")),
    ("server", Same("cluster")),
    ("service", Instead("hctl get services, or name one: hctl describe service/NAME")),
    ("set", EDIT),
    ("sh", SHELL),
    ("shell", SHELL),
    ("show", DESCRIBE),
    ("ssh", SHELL),
    (
        "stack",
        Instead("write a Job for each service, then hctl apply -f FILE: docs/coming-from.md"),
    ),
    ("start", Same("run WORKFLOW")),
    ("stats", Same("top tasks")),
    ("status", Instead("hctl get all lists what runs, hctl describe KIND/NAME shows one object")),
    ("stop", Same("cancel KIND/NAME")),
    (
        "submit",
        Instead("hctl apply -f FILE creates a workflow, hctl run WORKFLOW starts a run of it"),
    ),
    ("system", Same("cluster")),
    ("tail", Same("logs -f TASK")),
    ("template", Same("get workflows")),
    ("terminate", Same("cancel run/RUN")),
    ("trigger", Same("run WORKFLOW")),
    ("ui", Instead("there is no web interface: hctl get all --watch shows what happens")),
    ("undrain", Same("uncordon NODE")),
    ("uninstall", DELETE),
    ("unlabel", Same("label KIND/NAME KEY-")),
    ("unpause", Same("resume KIND/NAME")),
    ("untaint", Same("taint NODE KEY-")),
    ("up", APPLY),
    ("update", APPLY),
    ("upgrade", APPLY),
    ("validate", CHECK),
    (
        "watch",
        Instead("hctl get KIND --watch prints changes, hctl wait KIND/NAME waits for the end"),
    ),
];

/// What a user probably meant by an unknown command. `words` is the command line after `hctl`,
/// `unknown` the unknown word in it.
pub fn command(words: &[String], unknown: &str) -> Option<String> {
    let at = words.iter().position(|word| word == unknown);
    let before = at.map(|at| &words[..at]).unwrap_or_default();
    if before.iter().any(|word| word == "top") {
        return of_top(unknown);
    }
    if before.iter().any(|word| word == "cluster" || word == "debug") {
        return None;
    }
    if unknown == "api-resources" {
        return Some(format!("the kinds are {}", target::kinds()));
    }
    let next = at.and_then(|at| words.get(at + 1)).map(String::as_str).unwrap_or_default();
    let two = TWO_WORDS.iter().find(|(first, second, _)| (*first, *second) == (unknown, next));
    let one = || VERBS.iter().find(|(other, _)| *other == unknown).map(|(_, ours)| *ours);
    if let Some(ours) = two.map(|(_, _, ours)| *ours).or_else(one) {
        return Some(match ours {
            Same(command) => format!("did you mean hctl {command}?"),
            Instead(sentence) => sentence.to_owned(),
        });
    }
    if let Some(kind) = KindId::from_word(unknown).or_else(|| neighbours_word(unknown)) {
        return Some(format!("did you mean hctl get {}?", kind.info().plural));
    }
    let command = Args::command();
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    nearest(unknown, verbs).map(|verb| format!("did you mean hctl {verb}?"))
}

/// The hint for an unknown argument of `top`.
fn of_top(unknown: &str) -> Option<String> {
    match KindId::from_word(unknown).or_else(|| neighbours_word(unknown)) {
        Some(KindId::Node) => Some("did you mean hctl top nodes?".to_owned()),
        Some(KindId::Task) => Some("did you mean hctl top tasks?".to_owned()),
        Some(KindId::Job) => {
            Some(format!("for the tasks of a job: hctl top tasks -l {}=JOB", api::labels::JOB))
        }
        Some(_) => Some("nodes and tasks use something: hctl top nodes, hctl top tasks".to_owned()),
        None => Some(format!("did you mean hctl top tasks {unknown}?")),
    }
}

/// The hint for an argument that a command does not have.
pub fn argument(words: &[String], argument: &str) -> Option<String> {
    let verb = verb_of(words);
    let flag = argument.split(['=', ' ']).next().unwrap_or_default();
    // A flag after the first word of the command that exec has to run belongs to that command.
    let task_and_command = with_dashes(words).filter(|_| verb == "exec");
    if let Some(hint) = task_and_command
        && hint.split_once(" -- ").is_some_and(|(_, command)| {
            let mut command = command.split(' ');
            command.next().is_some_and(|first| !first.starts_with('-'))
                && command.any(|word| word.starts_with(flag))
        })
    {
        return Some(hint);
    }
    let is_of = |of: &str| of.is_empty() || of == verb;
    if let Some((_, _, hint)) = FLAGS.iter().find(|(of, other, _)| is_of(of) && *other == flag) {
        return Some((*hint).to_owned());
    }
    if let Some(hint) = parameter(verb, words, flag) {
        return Some(hint);
    }
    match verb {
        "exec" => with_dashes(words),
        "apply" if !flag.starts_with('-') => {
            Some(format!("did you mean hctl apply -f {argument}?"))
        }
        _ => None,
    }
}

/// The hint for a missing argument.
pub fn missing(words: &[String]) -> Option<String> {
    match verb_of(words) {
        "exec" => with_dashes(words),
        "get" => Some("name a kind: hctl get all, hctl get jobs".to_owned()),
        "logs" => Some("name what to print: hctl logs TASK, job/JOB or run/RUN".to_owned()),
        _ => None,
    }
}

/// The hint for a value that an argument does not accept.
pub fn value(words: &[String], argument: &str, value: &str) -> Option<String> {
    let form = value.split('=').next().unwrap_or_default();
    match argument.split(' ').next().unwrap_or_default() {
        "--output" => match form {
            "jsonpath" | "jsonpath-file" | "jsonpath-as-json" | "go-template" | "template" => Some(
                "write -o json, and select with jq: hctl get jobs -o json | jq '.items[].metadata.name'".to_owned(),
            ),
            "custom-columns" | "custom-columns-file" => {
                Some("write -o wide; or -o json, and select with jq".to_owned())
            }
            _ => None,
        },
        "--for" if matches!(form, "jsonpath" | "create" | "created" | "condition") => {
            Some("wait for succeeded, failed, done, ready or deleted: hctl wait --help".to_owned())
        }
        "--dry-run" => {
            Some("write --dry-run alone: it is always the server that checks".to_owned())
        }
        "--tail" if verb_of(words) == "logs" => Some("leave --tail out for all lines".to_owned()),
        _ => None,
    }
}

/// The command of a command line.
fn verb_of(words: &[String]) -> &str {
    let command = Args::command();
    let verb = words.iter().find(|word| command.find_subcommand(word).is_some());
    verb.map(String::as_str).unwrap_or_default()
}

/// Flags of `exec` with a value.
const WITH_VALUES: [&str; 6] = ["--attempt", "--namespace", "--output", "--server", "-n", "-o"];

/// Words as they have to be typed.
fn typed(words: &[String]) -> String {
    words.iter().map(|word| hints::word(word)).collect::<Vec<_>>().join(" ")
}

/// The command line of `exec` with the `--` that separates the command.
fn with_dashes(words: &[String]) -> Option<String> {
    if words.iter().any(|word| word == "--") {
        return None;
    }
    let verb = words.iter().position(|word| word == "exec")?;
    let is_value = |at: usize| WITH_VALUES.contains(&words[at - 1].as_str());
    let is_task = |at: &usize| !words[*at].starts_with('-') && !is_value(*at);
    let task = (verb + 1..words.len()).find(is_task)?;
    let (before, command) = words.split_at(task + 1);
    if command.is_empty() {
        return Some(format!("name the command after --: hctl {} -- sh", before.join(" ")));
    }
    Some(format!("write -- before the command: hctl {} -- {}", before.join(" "), typed(command)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign_flags::ONE_CONTAINER;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// What users of other tools type: a flag that hctl does not have, and what the hint contains.
    #[test]
    fn a_flag_of_another_tool_is_answered_with_ours() {
        for (line, flag, part) in [
            ("run w --day 2026-01-02", "--day", "-p day=2026-01-02"),
            ("run -i --rm busybox sh", "-i", "write a Job"),
            ("run w -e day=x", "-e", "-p day=x"),
            ("logs a-0 -t", "-t", "--timestamps"),
            ("get -f a.yaml", "-f", "KIND/NAME"),
            ("get tasks -L app", "-L", "--show-labels"),
            ("drain n --ignore-daemonsets", "--ignore-daemonsets", "perNode stay"),
            ("get jobs --timeout 5s", "--timeout", "hctl wait"),
            ("describe -f a.yaml", "-f", "KIND/NAME"),
            ("cancel job/a --wait", "--wait", "hctl wait KIND/NAME --for done"),
            ("cancel jobs --all", "--all", "xargs hctl cancel"),
            ("apply -f a.yaml -w", "-w", "--wait"),
            ("version --client", "--client", "hctl --version"),
            ("apply a.yaml", "a.yaml", "hctl apply -f a.yaml"),
        ] {
            let said = argument(&words(line), flag).unwrap_or_default();
            assert!(said.contains(part), "{line}: {said}");
        }
        assert!(meant("service ls").contains("hctl get services"));
        assert!(meant("stack deploy -c x").contains("hctl apply -f FILE"));
    }

    fn meant(line: &str) -> String {
        let words = words(line);
        let top = words.first().filter(|word| *word == "top").map_or(0, |_| 1);
        command(&words, &words[top]).unwrap_or_default()
    }

    #[test]
    fn a_verb_of_another_tool_or_with_a_slip_is_understood() {
        assert_eq!(meant("gt jobs"), "did you mean hctl get?");
        assert_eq!(meant("aply -f x"), "did you mean hctl apply?");
        assert_eq!(meant("rm job/a"), "did you mean hctl delete KIND/NAME?");
        assert_eq!(meant("stop job/a"), "did you mean hctl cancel KIND/NAME?", "not top");
        assert_eq!(meant("job stop a"), "did you mean hctl cancel job/JOB?");
        assert_eq!(meant("job"), "did you mean hctl get jobs?");
        assert_eq!(meant("pods"), "did you mean hctl get tasks?");
        assert_eq!(meant("untaint a"), "did you mean hctl taint NODE KEY-?", "not taint");
        assert!(meant("cp a b").starts_with("to read a file: hctl exec TASK"), "not completion");
        assert!(meant("set image x").starts_with("change the manifest"), "not get");
        assert_eq!(meant("node drain n"), "did you mean hctl drain NODE?");
        assert_eq!(meant("unlabel node n1 a"), "did you mean hctl label KIND/NAME KEY-?");
        assert!(meant("explain job").contains("docs/job.md"));
        assert_eq!(meant("frobnicate"), "");
    }

    #[test]
    fn top_knows_what_uses_something() {
        assert_eq!(meant("top pods"), "did you mean hctl top tasks?");
        assert_eq!(meant("top hosts"), "did you mean hctl top nodes?");
        assert_eq!(
            meant("top jobs"),
            "for the tasks of a job: hctl top tasks -l heliox.dev/job=JOB"
        );
        assert_eq!(meant("top load-0"), "did you mean hctl top tasks load-0?");
    }

    #[test]
    fn a_command_for_exec_is_set_apart() {
        let told = |line: &str| argument(&words(line), "-l").or_else(|| missing(&words(line)));
        let hint = "write -- before the command: hctl exec -it a-0 -- ls -l";
        assert_eq!(told("exec -it a-0 ls -l").as_deref(), Some(hint));
        let hint = "write -- before the command: hctl exec -n team a-0 -- ls -l";
        assert_eq!(told("exec -n team a-0 ls -l").as_deref(), Some(hint));
        let hint = "name the command after --: hctl exec a-0 -- sh";
        assert_eq!(told("exec a-0").as_deref(), Some(hint));
        let hint = "write -- before the command: hctl exec svc-0 -- sh -c 'exit 4'";
        let line = ["exec", "svc-0", "sh", "-c", "exit 4"].map(str::to_owned);
        assert_eq!(argument(&line, "-c").as_deref(), Some(hint));
        let of_kubectl = argument(&words("exec a-0 -c main -- sh"), "-c");
        assert_eq!(of_kubectl.as_deref(), Some(ONE_CONTAINER));
        assert_eq!(told("exec"), None);
        assert_eq!(told("exec a-0 -- ls -l"), None);
    }

    #[test]
    fn flags_and_formats_of_other_tools_are_known() {
        let flag = |line: &str, flag: &str| argument(&words(line), flag).unwrap_or_default();
        assert_eq!(flag("apply m.yaml", "m.yaml"), "did you mean hctl apply -f m.yaml?");
        assert!(flag("apply -k m", "-k").starts_with("kustomize build"));
        assert!(flag("logs -c x a", "-c").contains("one container"));
        assert!(flag("-n x delete job/a --force", "--force").contains("terminationGrace"));
        assert!(flag("get jobs --context x", "--context").contains("--server"));
        assert_eq!(flag("get jobs --frob", "--frob"), "");
        let of = |argument: &str, text: &str| value(&[], argument, text).unwrap_or_default();
        assert!(
            of("--output <FORMAT>", "jsonpath={.items}").ends_with("jq '.items[].metadata.name'")
        );
        assert!(of("--output <FORMAT>", "custom-columns=A:b").contains("jq"));
        assert_eq!(of("--output <FORMAT>", "toml"), "");
        assert!(of("--dry-run", "server").contains("alone"));
    }

    #[test]
    fn what_other_words_stand_for_is_there() {
        let command = Args::command();
        let commands = |ours: Ours| -> Vec<String> {
            let text = match ours {
                Same(line) => format!("hctl {line}"),
                Instead(sentence) => sentence.to_owned(),
            };
            let named = text.split("hctl ").skip(1);
            let verb = |rest: &str| rest.split([' ', ',', ')']).next().unwrap().to_owned();
            named.map(verb).filter(|verb| verb != "has" && verb != "merges").collect()
        };
        let one = VERBS.map(|(other, ours)| (other.to_owned(), ours));
        let two = TWO_WORDS.map(|(first, second, ours)| (format!("{first} {second}"), ours));
        for (other, ours) in one.into_iter().chain(two) {
            assert!(command.find_subcommand(&other).is_none(), "{other} is ours");
            for verb in commands(ours) {
                assert!(command.find_subcommand(&verb).is_some(), "{other}: {verb}");
            }
        }
        assert!(VERBS.is_sorted_by_key(|(other, _)| *other));
        assert!(TWO_WORDS.is_sorted_by_key(|(first, second, _)| (*first, *second)));
        for (verb, flag, _) in FLAGS.iter().filter(|(verb, ..)| !verb.is_empty()) {
            let ours = command.find_subcommand(verb).expect(verb);
            let long = |arg: &clap::Arg| arg.get_long().map(|long| format!("--{long}"));
            let short = |arg: &clap::Arg| arg.get_short().map(|short| format!("-{short}"));
            let mut all = ours.get_arguments().chain(command.get_arguments());
            let is_it =
                |arg: &clap::Arg| [long(arg), short(arg)].contains(&Some((*flag).to_owned()));
            assert!(!all.any(is_it), "{verb} {flag} is ours");
        }
    }
}
