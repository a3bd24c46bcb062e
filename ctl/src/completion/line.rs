//! The command line before the word that is being completed. Pure.

use api::KindId;
use clap::Command;

use crate::target::{self, Target};

/// The words before the one that is being completed, beginning with `hctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<String>);

impl Line {
    /// The words that are neither flags nor their values: the command and its arguments.
    pub(super) fn positionals(&self) -> Vec<&str> {
        let command = super::hctl();
        let mut verb: Option<&Command> = None;
        let (mut words, mut is_value) = (Vec::new(), false);
        // What follows `--` is a command to run, not arguments of hctl.
        for word in self.0.iter().skip(1).take_while(|word| *word != "--") {
            if std::mem::take(&mut is_value) {
                continue;
            }
            if word.starts_with('-') {
                is_value = [Some(&command), verb].into_iter().flatten().any(|it| waits(it, word));
                continue;
            }
            verb = match verb {
                None if words.is_empty() => command.find_subcommand(word),
                // `top nodes`
                verb => verb.and_then(|verb| verb.find_subcommand(word)).or(verb),
            };
            words.push(word.as_str());
        }
        words
    }

    /// The kind that was given as a word of its own.
    pub(super) fn kind(&self) -> Option<KindId> {
        self.positionals().into_iter().skip(1).find_map(KindId::from_word)
    }

    /// The object that was given. A name without a kind is of kind `usual`.
    pub(super) fn object(&self, usual: Option<KindId>) -> Option<Target> {
        let words = self.positionals().into_iter().skip(1);
        target::only_one(&words.map(str::to_owned).collect::<Vec<_>>(), usual).ok()
    }

    /// The value of a flag: `--flag VALUE`, `--flag=VALUE`, `-fVALUE`. The first one if there are
    /// several.
    pub(super) fn flag(&self, flags: &[&str]) -> Option<String> {
        self.values(flags).into_iter().next()
    }

    /// All values of a flag.
    pub(super) fn values(&self, flags: &[&str]) -> Vec<String> {
        let mut values = Vec::new();
        for (index, word) in self.0.iter().enumerate() {
            for flag in flags {
                if word == flag {
                    values.extend(self.0.get(index + 1).cloned());
                    continue;
                }
                let rest = word.strip_prefix(flag);
                let is_short = flag.len() == 2;
                values.extend(rest.and_then(|rest| match rest.strip_prefix('=') {
                    Some(value) => Some(value.to_owned()),
                    None => is_short.then(|| rest.to_owned()),
                }));
            }
        }
        values
    }

    /// Whether a flag without a value is set, possibly among other letters: `-f`, `-tf`.
    pub(super) fn has(&self, long: &str, short: char) -> bool {
        let is_short = |word: &str| {
            let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
            // Letters after -n and -o are their values.
            let letters = letters.unwrap_or_default().split(['n', 'o']).next();
            letters.is_some_and(|letters| letters.contains(short))
        };
        self.0.iter().any(|word| word == long || is_short(word))
    }
}

/// Whether the word is a flag of this command whose value is the next word.
fn waits(command: &Command, word: &str) -> bool {
    let takes = |arg: &clap::Arg| arg.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        return command.get_arguments().any(|arg| arg.get_long() == Some(long) && takes(arg));
    }
    let by_letter = |letter: char| {
        command.get_arguments().any(|arg| arg.get_short() == Some(letter) && takes(arg))
    };
    // The rest of the word is the value of the first letter that takes one.
    let letters = word.strip_prefix('-').unwrap_or_default();
    letters.find(by_letter).is_some_and(|at| letters[at..].chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        super::super::HCTL.get_or_init(|| <crate::args::Args as clap::CommandFactory>::command);
        Line(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn flags_and_their_values_are_not_what_the_verb_is_for() {
        for (text, words) in [
            ("hctl -n jobs describe", "describe"),
            ("hctl run flow -p a=b", "run flow"),
            ("hctl run -p a=b --wait --timeout 5m flow", "run flow"),
            ("hctl run --param=a=b workflow flow", "run workflow flow"),
            ("hctl logs -f task", "logs task"),
            ("hctl apply -f file dir", "apply dir"),
            ("hctl exec -it load-0 -- ls -l", "exec load-0"),
            ("hctl get tasks -wl app=web x", "get tasks x"),
            ("hctl top tasks --sort cpu load-0", "top tasks load-0"),
        ] {
            assert_eq!(line(text).positionals().join(" "), words, "{text}");
        }
    }

    #[test]
    fn the_object_of_a_line_is_named_in_each_form() {
        let named =
            |text: &str| line(text).object(Some(KindId::Workflow)).map(|target| target.to_string());
        assert_eq!(named("hctl run flow -p").as_deref(), Some("workflow/flow"));
        assert_eq!(named("hctl run workflow flow -p").as_deref(), Some("workflow/flow"));
        assert_eq!(named("hctl rerun run/flow-1 -p").as_deref(), Some("run/flow-1"));
        assert_eq!(named("hctl run -p"), None);
    }

    #[test]
    fn the_server_and_the_namespace_are_those_of_the_line() {
        for (text, namespace) in [
            ("hctl -n data get", Some("data")),
            ("hctl get -ndata", Some("data")),
            ("hctl get --namespace=data", Some("data")),
            ("hctl get --namespace data", Some("data")),
            ("hctl get --name data", None),
            ("hctl get -n", None),
        ] {
            let found = line(text).flag(&["--namespace", "-n"]);
            assert_eq!(found.as_deref(), namespace, "{text}");
        }
        let given = line("hctl run flow -p a=1 --param b=2 -pc=3").values(&["--param", "-p"]);
        assert_eq!(given, ["a=1", "b=2", "c=3"]);
        assert!(line("hctl logs -tf a").has("--follow", 'f'));
        assert!(line("hctl logs --follow a").has("--follow", 'f'));
        assert!(!line("hctl logs --failed a").has("--follow", 'f'));
    }
}
