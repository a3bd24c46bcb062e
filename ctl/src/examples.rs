//! The end of each command's help: examples, each of which a test parses as a command line, and
//! exit codes.

/// The exit codes in `hctl --help`.
pub const EXIT_CODES: &str = "Exit codes: 0 success, 1 error, 2 accepted but no node can run it, 3 the \
                          object waited for failed, 4 timed out, 5 conflict, 6 not found, 7 forbidden. exec \
                          exits with the code of the command that it ran. If the reader of a pipe goes \
                          away, commands that only show something exit with 0; commands that change or \
                          wait for something finish their work first";

/// The exit codes in `hctl wait --help`.
pub const WAIT_CODES: &str = "Exit codes: 0 all objects reached the state; 3 one never will; 6 one was not \
                          found; 2 timed out, and no node can run the tasks of one; 4 timed out. With \
                          several objects, the first of these that applies to any of them";

/// Of `apply`.
pub const APPLY: &str = "\
Examples:
  hctl apply -f deploy/                       # file, directory or -
  hctl apply -f job.yaml --wait --timeout 1h  # exit code 3 if a job fails
  hctl apply -f job.yaml --dry-run            # validate only";
/// Of `deploy`.
pub const DEPLOY: &str = "\
Examples:
  hctl deploy nginx --name web --on role=web --port http=80:8080
  hctl deploy app:2 --name api --replicas 3 --wait
  hctl deploy app --name api --on role=web --dry-run -o yaml  # the manifest";
/// Of `get`.
pub const GET: &str = "\
Examples:
  hctl get all                              # what people run, in this namespace
  hctl get jobs,runs -A --watch             # rows as they change
  hctl get tasks --job load --phase failed  # which tasks failed, and why
  hctl get tasks --job load --run 1         # as they were in run 1
  hctl get job/load -o yaml                 # ready to apply again";
/// Of `describe`.
pub const DESCRIBE: &str = "\
Examples:
  hctl describe job/load            # counts, reasons and events of a job
  hctl describe task load-0 load-1  # the attempts of two tasks";
/// Of `delete`.
pub const DELETE: &str = "\
Examples:
  hctl delete job/load --wait  # return when all its tasks have stopped
  hctl delete -f deploy/       # what these manifests describe
  hctl delete jobs -l team=ml  # all jobs with a label";
/// Of `logs`.
pub const LOGS: &str = "\
Examples:
  hctl logs -f job/load                # all tasks, until the job has finished
  hctl logs -f service/web             # a ready task; --all: all of them
  hctl logs load-0 --previous          # the attempt before the newest
  hctl logs job/load --run 1 --failed  # what failed in run 1";
/// Of `exec`.
pub const EXEC: &str = "\
Examples:
  hctl exec load-0 -- ls -l /data  # one command
  hctl exec -it load-0 -- sh       # a shell
  hctl exec service/web -- ls      # in a ready task";
/// Of `events`.
pub const EVENTS: &str = "\
Examples:
  hctl events job/load    # events about one object
  hctl events -A --watch  # new events in all namespaces";
/// Of `wait`.
pub const WAIT: &str = "\
Examples:
  hctl wait job/load --timeout 10m     # exit code 3 if it fails
  hctl wait node/node-1 --for ready    # until a node accepts tasks
  hctl wait task/load-0 --for deleted  # until it is gone";
/// Of `run`.
pub const RUN: &str = "\
Examples:
  hctl run daily                           # with the default parameters
  hctl run daily -p day=2026-01-02 --wait  # return when the run has finished";
/// Of `rerun`.
pub const RERUN: &str = "\
Examples:
  hctl rerun job/load                       # run a finished job again
  hctl rerun run/daily-1 -p day=2026-01-03  # with another value";
/// Of `scale`.
pub const SCALE: &str = "\
Examples:
  hctl scale service/web --replicas 5";
/// Of `rollout`.
pub const ROLLOUT: &str = "\
Examples:
  hctl rollout status service/web --timeout 10m      # exit code 3 if it fails
  hctl rollout undo service/web                      # what ran before
  hctl rollout undo service/web --to-revision 3      # what revision 3 ran
  hctl rollout restart service/web                   # all tasks anew";
/// Of `history`.
pub const HISTORY: &str = "\
Examples:
  hctl history service/web               # its revisions
  hctl history service/web --revision 3  # what revision 3 runs";
/// Of `cancel`.
pub const CANCEL: &str = "\
Examples:
  hctl cancel job/load run/daily-2  # a job and a run";
/// Of `suspend`.
pub const SUSPEND: &str = "\
Examples:
  hctl suspend job/load        # stop its tasks, keep what is done
  hctl suspend service/web     # stop its tasks until it is resumed
  hctl suspend workflow/daily  # start no new runs";
/// Of `resume`.
pub const RESUME: &str = "\
Examples:
  hctl resume job/load  # continue where it was suspended";
/// Of `evict`.
pub const EVICT: &str = "\
Examples:
  hctl evict load-0  # move one task to another node";
/// Of `cordon`.
pub const CORDON: &str = "\
Examples:
  hctl cordon node-1  # no new tasks; to move its tasks: hctl drain node-1";
/// Of `drain`.
pub const DRAIN: &str = "\
Examples:
  hctl drain node-1                        # returns when all tasks have left
  hctl drain node-1 node-2 --timeout 30m   # gives up then, exit code 4
  hctl drain node-1 --timeout 5m --force   # evicts then what is left";
/// Of `uncordon`.
pub const UNCORDON: &str = "\
Examples:
  hctl uncordon node-1  # let it take tasks again";
/// Of `label`.
pub const LABEL: &str = "\
Examples:
  hctl label node/node-1 role=batch disk-  # set one label, remove another
  hctl label nodes node-1 node-2 zone=b --overwrite";
/// Of `taint`.
pub const TAINT: &str = "\
Examples:
  hctl taint node-1 dedicated=gpu:NoSchedule  # only for tasks that tolerate it
  hctl taint node-1 dedicated:NoSchedule-     # for all again";
/// Of `top`.
pub const TOP: &str = "\
Examples:
  hctl top nodes --sort memory  # nodes, the busiest first
  hctl top tasks -l app=web     # tasks with a label";
/// Of `cluster`.
pub const CLUSTER: &str = "\
Examples:
  hctl cluster          # id, epoch and nodes
  hctl cluster confirm  # after a restore: see docs/backup.md";
/// Of `completion`.
pub const COMPLETION: &str = "\
Examples:
  hctl completion bash  # source <(hctl completion bash) in ~/.bashrc";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::args::Args;

    #[test]
    fn every_verb_has_examples_and_each_can_be_typed() {
        for verb in Args::command().get_subcommands() {
            let name = verb.get_name();
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter_map(|line| line.trim().strip_prefix("hctl "));
            let lines: Vec<&str> = lines.map(|line| line.split(" #").next().unwrap()).collect();
            let has_none = matches!(name, "version" | "debug");
            assert!(has_none || !lines.is_empty(), "{name} has no example");
            for line in lines {
                let words = std::iter::once("hctl").chain(line.split_whitespace());
                Args::try_parse_from(words).unwrap_or_else(|error| panic!("hctl {line}: {error}"));
            }
            // Other lines are folded, examples are not.
            let is_too_long = |line: &&str| line.starts_with("  hctl") && line.len() > 80;
            assert_eq!(help.lines().find(is_too_long), None, "{name}: for 80 columns");
        }
    }
}
