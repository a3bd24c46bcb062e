//! Flags of kubectl, docker, nomad and argo, and what to type instead. Pure.

use crate::hints;

/// Why there is no such flag: tasks have their own grace period.
pub const NO_FORCE: &str =
    "leave it out: a task has the terminationGracePeriodSeconds of its template to stop";
/// Why containers have no names here.
pub const ONE_CONTAINER: &str = "leave it out: a task is one container";
/// Why there are no contexts.
pub const NO_CONTEXTS: &str = "name the server with --server or HELIOX_SERVER";

const RUN_A_CONTAINER: &str =
    "hctl run starts a workflow; to run a container, write a Job and hctl apply -f FILE";
const NAMES_ONLY: &str =
    "name the objects in the file: KIND/NAME; hctl apply and hctl delete alone read files";
const DESCRIBE_ONE: &str =
    "name the objects: hctl get KIND lists them, hctl describe KIND/NAME shows one";
const EACH_CANCELLED: &str = "name each: hctl get jobs -o name | xargs hctl cancel";
/// The selector is part of the hint: without it everything would be cancelled.
const SELECTED_CANCELLED: &str = "name each: hctl get jobs -l LABELS -o name | xargs hctl cancel";

/// Flags of other tools, each with the command that has it there (any if empty), and the hint.
pub const FLAGS: [(&str, &str, &str); 70] = [
    (
        "apply",
        "--force",
        "hctl apply changes what the manifest says; to create an object again, delete it first",
    ),
    ("apply", "--kustomize", "kustomize build DIR | hctl apply -f -"),
    ("apply", "--prune", "delete what the manifests no longer name with hctl delete KIND/NAME"),
    ("apply", "--server-side", "leave it out: hctl merges what you changed since your last apply"),
    ("apply", "--validate", "leave it out: the server checks every field"),
    ("apply", "-k", "kustomize build DIR | hctl apply -f -"),
    ("delete", "--force", NO_FORCE),
    ("delete", "--grace-period", NO_FORCE),
    (
        "delete",
        "--ignore-not-found",
        "name objects with -f: those that do not exist are ignored then",
    ),
    ("delete", "--now", NO_FORCE),
    ("exec", "--container", ONE_CONTAINER),
    ("exec", "-c", ONE_CONTAINER),
    ("logs", "--all-containers", ONE_CONTAINER),
    ("logs", "--container", ONE_CONTAINER),
    ("logs", "--lines", "write --tail LINES"),
    ("logs", "--prefix", "leave it out: lines of several tasks begin with their names"),
    ("logs", "--selector", "name the job or the run: hctl logs job/JOB or run/RUN"),
    ("logs", "--since-time", "write --since DURATION, such as --since 10m"),
    ("logs", "-c", ONE_CONTAINER),
    ("logs", "-l", "name the job or the run: hctl logs job/JOB or run/RUN"),
    ("logs", "-t", "write --timestamps"),
    ("run", "--image", RUN_A_CONTAINER),
    ("top", "--all-namespaces", "leave it out: nodes are in no namespace"),
    ("top", "-A", "leave it out: nodes are in no namespace"),
    ("top", "--sort-by", "write --sort cpu or --sort memory"),
    ("apply", "--server-dry-run", "write --dry-run: it is always the server that checks"),
    ("apply", "--watch", "write --wait"),
    ("apply", "-w", "write --wait"),
    ("cancel", "--all", EACH_CANCELLED),
    ("cancel", "--file", "name the objects in the file: hctl cancel KIND/NAME"),
    ("cancel", "--selector", SELECTED_CANCELLED),
    ("cancel", "--wait", "hctl cancel, then hctl wait KIND/NAME --for done"),
    ("cancel", "-f", "name the objects in the file: hctl cancel KIND/NAME"),
    ("cancel", "-l", SELECTED_CANCELLED),
    ("cordon", "--selector", "name the nodes: hctl get nodes -l LABELS lists them"),
    ("cordon", "-l", "name the nodes: hctl get nodes -l LABELS lists them"),
    ("describe", "--all-namespaces", DESCRIBE_ONE),
    ("describe", "--file", NAMES_ONLY),
    ("describe", "--selector", DESCRIBE_ONE),
    ("describe", "-A", DESCRIBE_ONE),
    ("describe", "-f", NAMES_ONLY),
    ("describe", "-l", DESCRIBE_ONE),
    ("events", "--types", "hctl events | grep Warning"),
    ("evict", "--all", "name the tasks: hctl get tasks lists them"),
    ("get", "--chunk-size", "leave it out: hctl reads long lists in pages"),
    ("drain", "--delete-emptydir-data", "leave it out: tasks take nothing along"),
    ("drain", "--delete-local-data", "leave it out: tasks take nothing along"),
    ("drain", "--grace-period", NO_FORCE),
    ("drain", "--ignore-daemonsets", "leave it out: tasks of services with perNode stay"),
    ("get", "--file", NAMES_ONLY),
    ("get", "--follow", "write --watch"),
    ("get", "--ignore-not-found", "leave it out: exit code 6 says that an object does not exist"),
    ("get", "--label-columns", "write --show-labels"),
    ("get", "--show-kind", "leave it out: hctl get all and a list of kinds show the kind"),
    ("get", "--timeout", "to wait for an end: hctl wait KIND/NAME --timeout DURATION"),
    ("get", "-L", "write --show-labels"),
    ("get", "-R", NAMES_ONLY),
    ("get", "-f", NAMES_ONLY),
    ("run", "--detach", RUN_A_CONTAINER),
    ("run", "--interactive", RUN_A_CONTAINER),
    ("run", "--rm", RUN_A_CONTAINER),
    ("run", "-d", RUN_A_CONTAINER),
    ("run", "-i", RUN_A_CONTAINER),
    ("run", "-it", RUN_A_CONTAINER),
    ("run", "-t", RUN_A_CONTAINER),
    ("run", "-v", RUN_A_CONTAINER),
    ("version", "--client", "leave it out: hctl --version shows the version of hctl alone"),
    ("", "--cluster", NO_CONTEXTS),
    ("", "--context", NO_CONTEXTS),
    ("", "--kubeconfig", NO_CONTEXTS),
];

/// The hint for a workflow parameter that is written as a flag: `--day 2026-01-02`, or `-e
/// day=2026-01-02`. `words` is the command line after `hctl`.
pub fn parameter(verb: &str, words: &[String], argument: &str) -> Option<String> {
    let is_meant = argument.starts_with("--") || matches!(argument, "-e" | "-P" | "-a");
    let at = words.iter().position(|word| word.split('=').next() == Some(argument))?;
    if !matches!(verb, "run" | "rerun") || !is_meant {
        return None;
    }
    let next = words.get(at + 1).filter(|next| !next.starts_with('-'));
    let given = match (words[at].split_once('='), next) {
        (Some((_, value)), _) => (argument.trim_start_matches('-'), Some(value)),
        (None, next) => (argument.trim_start_matches('-'), next.map(String::as_str)),
    };
    let pair = match given {
        (_, Some(pair)) if !argument.starts_with("--") || argument == "--env" => pair.to_owned(),
        (name, Some(value)) => format!("{name}={value}"),
        (name, None) => format!("{name}=VALUE"),
    };
    Some(format!("a parameter is written as -p KEY=VALUE: -p {}", hints::word(&pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_written_as_a_flag_is_understood() {
        let told = |line: &str, argument: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            parameter(&words[0], &words, argument)
                .map(|hint| hint.rsplit("-p ").next().unwrap_or_default().to_owned())
        };
        let day = Some("day=2026-01-02".to_owned());
        assert_eq!(told("run w --day 2026-01-02", "--day"), day);
        assert_eq!(told("run w --day=2026-01-02", "--day"), day);
        assert_eq!(told("rerun run/w-1 -e day=2026-01-02", "-e"), day);
        assert_eq!(told("run w --full --wait", "--full"), Some("full=VALUE".to_owned()));
        assert_eq!(told("run w -x", "-x"), None);
        assert_eq!(told("get w --day x", "--day"), None);
    }
}
