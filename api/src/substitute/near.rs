//! Finds what looks like a name of ours and is none: `$(item)`, `$(task_name)`, `${params.x}`,
//! `{{item}}`, `$JOB_COMPLETION_INDEX`. Without a warning it would reach the program as it is.
//!
//! Only what can hardly be meant for a shell is reported: `$(date)`, `${item}`, and the `{{` of awk
//! and of Go templates are not. These are warnings and not errors, because the program may have
//! such names of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::foreign::{self, Variable};
use super::names;
use super::reference::{Piece, ROOTS, pieces};
use crate::schema::VIOLATIONS_MAX;
use crate::violation::{Violation, nearest};

/// Everything in the spec of a Job or Workflow that was probably meant as a Heliox name, with the
/// name that was probably meant.
pub fn near_misses(spec: &Value) -> Vec<Violation> {
    let (mut texts, mut variables) = (Vec::new(), BTreeSet::new());
    walk(spec, ("spec", None), &mut texts, &mut variables);
    let mut found = Vec::new();
    for Text { path, text, data } in &texts {
        let misses = misses(text, |name| variables.contains(name));
        let names = data.map(|field| (field, ours(text)));
        let names = names.into_iter().flat_map(|(field, names)| {
            names.into_iter().map(move |whole| in_data(path, field, whole))
        });
        let misses = misses.into_iter().map(|miss| match data {
            Some(field) if miss.system.is_none() => in_data(path, field, miss.whole),
            Some(_) | None => miss.violation(path),
        });
        let room = VIOLATIONS_MAX - found.len();
        found.extend(names.chain(misses).take(room));
        if found.len() == VIOLATIONS_MAX {
            break;
        }
    }
    found
}

/// A text of a spec.
struct Text<'a> {
    path: String,
    text: &'a str,
    /// The data field that contains the text; names in it are not replaced.
    data: Option<&'static str>,
}

/// Fields that hold the user's own data: nothing is replaced in them.
const DATA: [&str; 2] = ["items", "enum"];

/// All valid Heliox names in a text.
fn ours(text: &str) -> Vec<&str> {
    let whole = |piece| match piece {
        Piece::Ours(reference) => Some(reference.whole),
        Piece::Text(_) | Piece::Escaped | Piece::Variable { .. } => None,
    };
    pieces(text).into_iter().filter_map(whole).collect()
}

/// The warning that a name stands in a data field.
fn in_data(path: &str, field: &str, whole: &str) -> Violation {
    let why = format!("{whole} is taken as it is: nothing is replaced in {field}");
    Violation::new(path, why).hint("refer to it in the template")
}

/// Collects all texts below a value with their paths, and the names of declared variables.
fn walk<'a>(
    value: &'a Value,
    (path, data): (&str, Option<&'static str>),
    texts: &mut Vec<Text<'a>>,
    variables: &mut BTreeSet<&'a str>,
) {
    match value {
        Value::String(text) => {
            texts.push(Text { path: path.to_owned(), text, data });
            let may_be_told =
                |name: &&str| name.starts_with(OURS) || foreign::variable(name).is_some();
            variables.extend(assigned(text).filter(may_be_told));
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, (&format!("{path}[{index}]"), data), texts, variables);
            }
        }
        Value::Object(map) => {
            let env = map.get("env").and_then(Value::as_array).into_iter().flatten();
            variables.extend(env.filter_map(|variable| variable.get("name")?.as_str()));
            // A parameter's description is only for people.
            for (field, value) in map.iter().filter(|(field, _)| *field != "description") {
                let data = data.or_else(|| DATA.into_iter().find(|known| known == field));
                walk(value, (&format!("{path}.{field}"), data), texts, variables);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

/// Whether a character may be in the name of a shell's variable.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The names of variables that a shell script assigns: the words before each `=`.
fn assigned(text: &str) -> impl Iterator<Item = &str> {
    let before = |(at, _): (usize, &str)| {
        let start = text[..at].trim_end_matches(is_of_name).len();
        &text[start..at]
    };
    text.match_indices('=').map(before)
}

/// Something that was probably meant as a Heliox name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NearMiss<'a> {
    /// The whole text: `${params.x}`.
    whole: &'a str,
    /// What was probably meant: `$(params.x)`; nothing if Heliox has no such name.
    meant: Option<String>,
    /// For a variable: the other system that sets it.
    system: Option<&'static str>,
}

impl<'a> NearMiss<'a> {
    fn of_name(whole: &'a str, meant: &str) -> Self {
        Self { whole, meant: Some(format!("$({meant})")), system: None }
    }

    fn of_variable(whole: &'a str, variable: Variable) -> Self {
        Self { whole, meant: variable.ours, system: Some(variable.system) }
    }

    /// A variable with the prefix of those that Heliox sets, and not one of them.
    fn of_slip(whole: &'a str, name: &str) -> Option<Self> {
        let known = || names::ENVIRONMENT.iter().map(|known| known.name);
        let is_of_port = OF_PORTS
            .iter()
            .any(|start| name.strip_prefix(start).is_some_and(|end| !end.is_empty()));
        let is_fine = !name.starts_with(OURS)
            || is_of_port
            || OF_HCTL.contains(&name)
            || known().any(|known| known == name);
        let meant = || nearest(name, known()).map(|meant| format!("${meant}"));
        (!is_fine).then(|| Self { whole, meant: meant(), system: None })
    }

    fn violation(self, path: &str) -> Violation {
        let whole = self.whole;
        let why = match self.system {
            Some(system) => format!("{whole} is set by {system}, not by Heliox"),
            None => format!("{whole} is passed to the program as it is: Heliox has no such name"),
        };
        let hint = match self.meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "declare it in env if the program needs it".to_owned(),
        };
        Violation::new(path, why).hint(hint)
    }
}

/// Prefix of the variables that Heliox sets. Templates cannot declare variables with it.
const OURS: &str = "HELIOX_";
/// Variables of `hctl` that have the same prefix: a script may set them.
const OF_HCTL: [&str; 2] = ["HELIOX_SERVER", "HELIOX_LOG"];
/// Beginnings of variables whose ends are names of ports.
const OF_PORTS: [&str; 2] = ["HELIOX_PORT_", "HELIOX_ADDR_"];

/// Longest name that is looked at, in characters.
const NAME_CHARS_MAX: usize = 256;
/// Names under `task` that mean nothing else, so that people leave out the root.
const BARE: [&str; 4] = ["item", "index", "partition", "attempt"];
/// Wrong roots that people use, and the right ones.
const SIMILAR: [(&str, &str); 6] = [
    ("param", "params"),
    ("parameters", "params"),
    ("port", "ports"),
    ("tasks", "task"),
    ("runs", "run"),
    ("nodes", "node"),
];

/// Names with a dot that people make up, and ours. No program has names like these.
const MADE_UP: [(&str, &str); 8] = [
    ("partition.name", "task.partition"),
    ("partition.id", "task.partition"),
    ("attempt.number", "task.attempt"),
    ("workflow.name", "run.name"),
    ("workflowrun.name", "run.name"),
    ("job.name", "HELIOX_JOB"),
    ("job.index", "task.index"),
    ("namespace.name", "HELIOX_NAMESPACE"),
];

/// Everything in a text that was probably meant as a Heliox name, other than declared variables.
fn misses<'a>(text: &'a str, is_declared: impl Fn(&str) -> bool) -> Vec<NearMiss<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(['$', '{']).map(|offset| at + offset) {
        let rest = &text[start..];
        let is_escaped = text[..start].ends_with('\\');
        let miss = if rest.starts_with("$$") {
            at = start + 2;
            continue;
        } else if is_escaped {
            None
        } else {
            miss(rest, &is_declared)
        };
        at = start + miss.as_ref().map_or(1, |miss| miss.whole.len());
        found.extend(miss);
    }
    found
}

/// What stands at the beginning of the text, if it was probably meant as a Heliox name.
fn miss<'a>(text: &'a str, is_declared: &impl Fn(&str) -> bool) -> Option<NearMiss<'a>> {
    if text.starts_with("{{") || text.starts_with("${{") {
        let open = text.find("{{")? + 2;
        let inner = until(&text[open..], "}}")?;
        let meant = foreign::name(inner.trim()).or_else(|| in_curly(inner.trim()))?;
        return Some(NearMiss::of_name(&text[..open + inner.len() + 2], &meant));
    }
    let after = text.strip_prefix('$')?;
    match after.chars().next()? {
        '(' => {
            let inner = until(&after[1..], ")")?;
            if is_declared(inner) {
                return None;
            }
            let whole = &text[..inner.len() + 3];
            match in_round(inner) {
                Some(meant) => Some(NearMiss::of_name(whole, &meant)),
                None => NearMiss::of_slip(whole, inner),
            }
        }
        '{' => {
            let inner = until(&after[1..], "}")?;
            if is_declared(inner) {
                return None;
            }
            let whole = &text[..inner.len() + 3];
            let meant = foreign::name(inner).filter(|_| inner.contains('.'));
            match meant.or_else(|| in_curly(inner)) {
                Some(meant) => Some(NearMiss::of_name(whole, &meant)),
                None => NearMiss::of_slip(whole, inner)
                    .or_else(|| Some(NearMiss::of_variable(whole, foreign::variable(inner)?))),
            }
        }
        _ => {
            let name = &after[..after.find(|c| !is_of_name(c)).unwrap_or(after.len())];
            if is_declared(name) {
                return None;
            }
            let whole = &text[..=name.len()];
            NearMiss::of_slip(whole, name)
                .or_else(|| Some(NearMiss::of_variable(whole, foreign::variable(name)?)))
        }
    }
}

/// The text up to its closing delimiter. The search is bounded, because otherwise a text of many
/// opening delimiters would be searched to its end for each of them.
fn until<'a>(text: &'a str, close: &str) -> Option<&'a str> {
    let near = text.char_indices().nth(NAME_CHARS_MAX).map_or(text, |(end, _)| &text[..end]);
    near.find(close).map(|end| &near[..end])
}

/// What `$(inner)` was probably meant to contain.
fn in_round(inner: &str) -> Option<String> {
    let name = inner.trim();
    let (root, rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
    if rest.is_empty() {
        let bare = BARE.contains(&name).then(|| format!("task.{name}"));
        return bare.or_else(|| joined(name));
    }
    if root == "item" {
        return Some(format!("task.{name}"));
    }
    let Some(ours) = root_of(root) else {
        return made_up(name).or_else(|| foreign::name(name));
    };
    // A correctly written name is not a near miss; whether it exists is checked elsewhere.
    (ours != root || name.len() != inner.len()).then(|| with_rest(ours, rest))
}

/// The Heliox name for a made-up one.
fn made_up(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    MADE_UP.iter().find(|(made_up, _)| *made_up == lower).map(|(_, ours)| (*ours).to_owned())
}

/// A root with the rest that follows it; the rest is written in lower case if it is then a name:
/// `TASK.NAME`.
fn with_rest(root: &str, rest: &str) -> String {
    let end = rest[1..].find(['.', '[']).map_or(rest.len(), |end| end + 1);
    let (first, more) = rest.split_at(end);
    let small = first.to_ascii_lowercase();
    let is_known = names::is_known(&format!("{root}{small}"));
    format!("{root}{}{more}", if is_known { &small } else { first })
}

/// What `${inner}` was probably meant to contain. Shell variables have no dot in their names.
fn in_curly(inner: &str) -> Option<String> {
    let (root, rest) = inner.split_at(inner.find('.')?);
    let is_plain = rest.chars().all(|c| is_of_name(c) || matches!(c, '.' | '-'));
    if !is_plain || rest.len() < 2 {
        return None;
    }
    let ours = if root == "item" { Some("task.item") } else { root_of(root) };
    ours.map(|ours| with_rest(ours, rest)).or_else(|| made_up(inner))
}

/// The root that a word means.
fn root_of(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    let similar = SIMILAR.iter().find(|(similar, _)| *similar == lower).map(|(_, root)| *root);
    ROOTS.iter().find(|root| **root == lower).copied().or(similar)
}

/// `task_name`, `taskName` and `task-name` as `task.name`, where that is a name.
fn joined(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let split = |root: &&str| {
        let rest = lower.strip_prefix(*root)?;
        let bare = rest.trim_start_matches(['_', '-']);
        let is_joined = bare.len() < rest.len() || word.chars().any(char::is_uppercase);
        let name = format!("{root}.{bare}");
        (is_joined && names::is_known(&name)).then_some(name)
    };
    ROOTS.iter().find_map(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let is_declared = |name: &str| matches!(name, "partition" | "NOMAD_ALLOC_NAME");
        let shown = |it: NearMiss<'_>| {
            format!("{} -> {}", it.whole, it.meant.unwrap_or_else(|| "nothing".to_owned()))
        };
        misses(text, is_declared).into_iter().map(shown).collect()
    }

    #[test]
    fn what_was_meant_for_us_is_found() {
        for (text, expected) in [
            ("echo $(item)", "$(item) -> $(task.item)"),
            ("$(item.path)", "$(item.path) -> $(task.item.path)"),
            ("$(item['path'])", "$(item['path']) -> $(task.item['path'])"),
            ("$(attempt)", "$(attempt) -> $(task.attempt)"),
            ("$(task_name)", "$(task_name) -> $(task.name)"),
            ("$(taskIndex)", "$(taskIndex) -> $(task.index)"),
            ("$(node-name)", "$(node-name) -> $(node.name)"),
            ("$(RUN_NAME)", "$(RUN_NAME) -> $(run.name)"),
            ("${params.x}", "${params.x} -> $(params.x)"),
            ("${item.path}", "${item.path} -> $(task.item.path)"),
            ("${param.x}", "${param.x} -> $(params.x)"),
            ("$(param.x)", "$(param.x) -> $(params.x)"),
            ("$( task.name )", "$( task.name ) -> $(task.name)"),
            ("$(Task.name)", "$(Task.name) -> $(task.name)"),
            ("$(port.http)", "$(port.http) -> $(ports.http)"),
            ("$(index)", "$(index) -> $(task.index)"),
            ("$(TASK.NAME)", "$(TASK.NAME) -> $(task.name)"),
            ("$(TASK.ITEM.Path)", "$(TASK.ITEM.Path) -> $(task.item.Path)"),
            ("${RUN.DATE}", "${RUN.DATE} -> $(run.date)"),
            ("$(partition.name)", "$(partition.name) -> $(task.partition)"),
            ("${job.name}", "${job.name} -> $(HELIOX_JOB)"),
            ("{{ partition.id }}", "{{ partition.id }} -> $(task.partition)"),
            ("$(workflow.parameters.day)", "$(workflow.parameters.day) -> $(params.day)"),
            ("echo $HELIOX_INDX", "$HELIOX_INDX -> $HELIOX_INDEX"),
            ("${HELIOX_PARTITON}", "${HELIOX_PARTITON} -> $HELIOX_PARTITION"),
            ("$(HELIOX_NODES)", "$(HELIOX_NODES) -> $HELIOX_NODE"),
            ("$HELIOX_SOMETHING_ELSE", "$HELIOX_SOMETHING_ELSE -> nothing"),
            ("echo {{item}}", "{{item}} -> $(task.item)"),
            ("{{ item.path }}", "{{ item.path }} -> $(task.item.path)"),
            ("{{inputs.parameters.x}}", "{{inputs.parameters.x}} -> $(params.x)"),
            ("{{ workflow.parameters.day }}", "{{ workflow.parameters.day }} -> $(params.day)"),
            ("{{workflow.name}}", "{{workflow.name}} -> $(run.name)"),
            ("{{ params.x }}", "{{ params.x }} -> $(params.x)"),
            ("{{ task.index }}", "{{ task.index }} -> $(task.index)"),
            ("{{ ds }}", "{{ ds }} -> $(run.date)"),
            ("{{.Task.Slot}}", "{{.Task.Slot}} -> $(task.index)"),
            ("${{ inputs.day }}", "${{ inputs.day }} -> $(params.day)"),
            ("${node.unique.name}", "${node.unique.name} -> $(node.name)"),
            ("part-$JOB_COMPLETION_INDEX.csv", "$JOB_COMPLETION_INDEX -> $HELIOX_INDEX"),
            ("${JOB_COMPLETION_INDEX}", "${JOB_COMPLETION_INDEX} -> $HELIOX_INDEX"),
            ("$NOMAD_PORT_http", "$NOMAD_PORT_http -> $HELIOX_PORT_HTTP"),
            ("${NOMAD_META_day}", "${NOMAD_META_day} -> $(params.day)"),
            ("cd ${NOMAD_TASK_DIR}/x", "${NOMAD_TASK_DIR} -> nothing"),
            ("$SLURM_ARRAY_TASK_ID", "$SLURM_ARRAY_TASK_ID -> $HELIOX_INDEX"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
        assert_eq!(found("$(item) ${params.x} $$(item)").len(), 2);
    }

    #[test]
    fn every_name_that_is_pointed_to_is_one() {
        for (made_up, ours) in MADE_UP {
            let is_variable = names::ENVIRONMENT.iter().any(|known| known.name == ours);
            assert!(is_variable || names::is_known(ours), "{made_up}: {ours}");
        }
    }

    #[test]
    fn a_spec_is_searched_as_a_whole_but_for_its_own_variables() {
        let spec = serde_json::json!({
            "params": [{ "name": "x", "description": "as ${params.y}", "enum": ["a", "$(run.date)"] }],
            "jobs": [{
                "items": ["$(params.x)", { "path": "$(item)" }, "$(date)"],
                "template": {
                    "args": ["$(item)", "$(attempt)", "$(params.x)", "$SLURM_JOB_ID"],
                    "env": [{ "name": "attempt", "value": "${params.x}" }],
                    "command": ["sh", "-c", "PBS_JOBID=3 ./run $PBS_JOBID $NOMAD_META_x"],
                },
            }],
        });
        let found: Vec<String> = near_misses(&spec).iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            spec.params[0].enum[1]: $(run.date) is taken as it is: nothing is replaced in enum (refer to it in the template)
            spec.jobs[0].items[0]: $(params.x) is taken as it is: nothing is replaced in items (refer to it in the template)
            spec.jobs[0].items[1].path: $(item) is taken as it is: nothing is replaced in items (refer to it in the template)
            spec.jobs[0].template.args[0]: $(item) is passed to the program as it is: Heliox has no such name (did you mean $(task.item)?)
            spec.jobs[0].template.args[3]: $SLURM_JOB_ID is set by Slurm, not by Heliox (declare it in env if the program needs it)
            spec.jobs[0].template.env[0].value: ${params.x} is passed to the program as it is: Heliox has no such name (did you mean $(params.x)?)
            spec.jobs[0].template.command[2]: $NOMAD_META_x is set by Nomad, not by Heliox (did you mean $(params.x)?)"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn what_is_for_a_shell_or_is_right_is_left_alone() {
        for text in [
            "$HELIOX_INDEX ${HELIOX_JOB} $(HELIOX_NODE) $HELIOX_PORT_HTTP $HELIOX_SERVER",
            "$(date)",
            "$(date +%s)",
            "${item}",
            "${HOME}",
            "$HOME",
            "$(task.name)",
            "$$(item)",
            "$(ls item)",
            "$(node --version)",
            "$(name)",
            "$(count)",
            "$(",
            "${",
            "$",
            "$$",
            "$(items)",
            "${a.b}",
            "$(other.name)",
            "$(task)",
            "$(params.x)",
            "$(task.item.path)",
            "$(partition)",
            "$(runner)",
            "$(taskset -c 1 x)",
            "${x:-$(date)}",
            "$((1+2))",
            "ü$(ü)",
            "$index",
            "${index}",
            "$(index x y)",
            "awk '{{print $1}}'",
            "awk 'BEGIN{{x=1}} {print}'",
            "docker inspect -f '{{.Name}} {{.State.Status}}' x",
            "docker node ls --format '{{.Hostname}}'",
            "kubectl get pods -o go-template='{{range .items}}{{.metadata.name}}{{end}}'",
            "helm --set x={{ .Values.x }}",
            "{{}}",
            "{{",
            "{{items}}",
            "{{ item | upper }} {{ item.path | upper }}",
            "${a[@]} ${#a} ${a%.*} ${a/params.x/y}",
            "find . -exec echo {} \\;",
            "echo {a,b}{{c,d}}",
            "\\$JOB_COMPLETION_INDEX \\$(item)",
            "$NOMAD_ALLOC_NAME",
            "nomad status -address $NOMAD_ADDR -namespace $NOMAD_NAMESPACE",
            "${JOB_COMPLETION_INDEX:-0}",
            "$MY_JOB_COMPLETION_INDEX $JOB_COMPLETION_INDEX_2",
            "$JOB_ID $TASK_ID $HOSTNAME $RANDOM",
            "$((JOB_COMPLETION_INDEX + 1))",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
