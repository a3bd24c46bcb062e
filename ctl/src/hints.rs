//! Suggested commands, as they have to be typed in the namespace of the command line. Pure.

/// Commands that need a namespace.
const IN_A_NAMESPACE: [&str; 18] = [
    "cancel", "delete", "deploy", "describe", "events", "evict", "exec", "get", "history", "label",
    "logs", "rerun", "resume", "rollout", "run", "scale", "suspend", "wait",
];

/// The text with the namespace added to each hctl command in it, if it has to be named.
pub fn within(text: &str, namespace: Option<&str>) -> String {
    let Some(namespace) = namespace else { return text.to_owned() };
    let mut parts = text.split("hctl ");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        whole.push_str("hctl ");
        let ends = |c: char| !c.is_ascii_alphabetic();
        let verb = rest.split(ends).next().unwrap_or_default();
        let is_said = rest.contains(" -n ");
        if IN_A_NAMESPACE.contains(&verb) && !is_said {
            whole.push_str(&format!("-n {namespace} "));
        }
        whole.push_str(rest);
    }
    whole
}

/// The flag to find what is in `namespace`, after a space; empty if it is found without one from
/// the namespace `seen_from`, or if it is in no namespace.
pub fn place(namespace: &str, seen_from: &str) -> String {
    let is_found = namespace.is_empty() || namespace == seen_from;
    if is_found { String::new() } else { format!(" -n {namespace}") }
}

/// The command that lists the runs of a workflow.
pub fn runs_of(workflow: &str) -> String {
    format!("hctl get runs --field-selector spec.workflow={workflow}")
}

/// A word quoted for a shell.
pub fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn a_hint_names_the_namespace_that_the_command_line_did() {
        let within = |text: &str| within(text, Some("data"));
        assert_eq!(
            within("wait for it with hctl wait job/a, or stop it with hctl cancel job/a"),
            "wait for it with hctl -n data wait job/a, or stop it with hctl -n data cancel job/a"
        );
        assert_eq!(
            within("see why with hctl describe -n team job/a"),
            "see why with hctl describe -n team job/a"
        );
        assert_eq!(within("check both with hctl version"), "check both with hctl version");
        assert_eq!(within("hctl's own words"), "hctl's own words");
        assert_eq!(super::within("hctl get jobs", None), "hctl get jobs");
    }

    #[test]
    fn a_word_can_be_pasted_into_a_shell() {
        assert_eq!(word("day=2026-01-02"), "day=2026-01-02");
        assert_eq!(word("q=it's $HOME"), r"'q=it'\''s $HOME'");
    }

    #[test]
    fn what_is_where_the_commands_look_needs_no_flag() {
        assert_eq!(place("team", "default"), " -n team");
        assert_eq!([place("team", "team"), place("", "default")], ["", ""]);
    }

    #[test]
    fn every_verb_looks_into_a_namespace_or_not() {
        let command = Args::command();
        let elsewhere = [
            "apply",
            "top",
            "cordon",
            "uncordon",
            "drain",
            "taint",
            "cluster",
            "debug",
            "version",
            "completion",
        ];
        for verb in command.get_subcommands().map(clap::Command::get_name) {
            assert!(IN_A_NAMESPACE.contains(&verb) != elsewhere.contains(&verb), "{verb}");
        }
    }
}
