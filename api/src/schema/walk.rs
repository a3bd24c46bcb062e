//! Walks over a document and its schema side by side and collects the violations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::generate::PARTIAL;
use super::words;
use super::{DEPTH_MAX, VIOLATIONS_MAX};
use crate::amounts::Quantity;
use crate::duration::Duration;
use crate::kind::KindId;
use crate::path;
use crate::violation::Violation;

/// Longest hint that repeats what was written. A longer one would only be noise.
const HINT_BYTES_MAX: usize = 60;

/// Shortest word for which a similar field of another map is suggested: many fields are similar to
/// a very short word.
const FAR_CHARS_MIN: usize = 4;

/// The message for a missing field.
const IS_REQUIRED: &str = "is required";

/// The state of the walk.
struct Walk<'a> {
    kind: KindId,
    /// Fields and indexes from the root to here.
    steps: Vec<Step<'a>>,
    /// For each map on the way here: how many steps lead to it, and which fields it may have.
    maps: Vec<(usize, &'a Map<String, Value>)>,
    /// Whether texts may still contain `$(...)`.
    partial: bool,
    /// Whether the surrounding map requires this field.
    required: bool,
    found: &'a mut Vec<Violation>,
}

/// One step of the path.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// Checks a whole document except its status.
pub(super) fn document<'a>(
    kind: KindId,
    schema: &'a Value,
    document: &'a Value,
    found: &'a mut Vec<Violation>,
) {
    let mut walk =
        Walk { kind, steps: Vec::new(), maps: Vec::new(), partial: false, required: false, found };
    walk.value(schema, document);
}

/// Checks a part of a document. Paths begin with `root`.
pub(super) fn part<'a>(
    kind: KindId,
    (root, schema): (&'a str, &'a Value),
    part: &'a Value,
    found: &'a mut Vec<Violation>,
) {
    let steps = vec![Step::Field(root)];
    let mut walk = Walk { kind, steps, maps: Vec::new(), partial: false, required: false, found };
    walk.value(schema, part);
}

impl<'a> Walk<'a> {
    fn path(&self) -> String {
        self.path_of(self.steps.len())
    }

    /// The path of the first `steps` steps.
    fn path_of(&self, steps: usize) -> String {
        let mut path = String::new();
        for step in self.steps.iter().take(steps) {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field(field) => path.push_str(&path::field_step(field, path.is_empty())),
            }
        }
        path
    }

    fn say(&mut self, message: impl Into<String>) {
        self.add(Violation::new(self.path(), message));
    }

    fn add(&mut self, violation: Violation) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(violation);
        }
    }

    fn down(&mut self, step: Step<'a>, schema: &'a Value, value: &'a Value) {
        self.steps.push(step);
        self.value(schema, value);
        self.steps.pop();
    }

    fn value(&mut self, schema: &'a Value, value: &'a Value) {
        if self.found.len() >= VIOLATIONS_MAX {
            return;
        }
        if self.steps.len() > DEPTH_MAX {
            return self.say(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        let partial = self.partial;
        self.partial |= schema.get(PARTIAL).is_some();
        match alternatives(schema) {
            Some(alternatives) => self.one_of(&alternatives, value),
            None => self.plain(schema, value),
        }
        self.partial = partial;
    }

    /// Checks a value against alternatives: either several words, or one schema and null.
    fn one_of(&mut self, alternatives: &[&'a Value], value: &'a Value) {
        if value.is_null() && alternatives.iter().any(|schema| allows(schema, value)) {
            return;
        }
        let words: Vec<&str> = alternatives.iter().flat_map(|schema| words_of(schema)).collect();
        if !words.is_empty() {
            return self.word(&words, value);
        }
        let fitting = alternatives.iter().find(|schema| allows(schema, value));
        let some = alternatives.iter().find(|schema| !allows(schema, &Value::Null));
        if let Some(schema) = fitting.or(some) {
            self.value(schema, value);
        }
    }

    fn plain(&mut self, schema: &'a Value, value: &'a Value) {
        let words: Vec<&str> = words_of(schema).collect();
        let allowed = allows(schema, value);
        if !words.is_empty() && (!allowed || !value.is_null()) {
            return self.word(&words, value);
        }
        if !allowed {
            return self.wrong_type(schema, value);
        }
        match value {
            Value::Object(map) => self.map(schema, map),
            Value::Array(list) => self.list(schema, list),
            Value::String(text) => self.text(schema, text),
            Value::Number(_) => self.number(schema, value),
            Value::Null | Value::Bool(_) => {
                // `true`, or no schema at all, allows any value. Its depth is bounded where values
                // of this kind are checked.
            }
        }
    }

    fn wrong_type(&mut self, schema: &'a Value, value: &'a Value) {
        if value.is_null() && self.tolerates_null() {
            return;
        }
        let expected = types(schema);
        let wanted: Vec<&str> =
            expected.iter().filter(|it| **it != "null").map(|it| type_name(it)).collect();
        let message = format!("expected {}, found {}", wanted.join(" or "), found_name(value));
        let violation = Violation::new(self.path(), message);
        let text = expected.contains(&"string");
        let hint = match value {
            Value::Null if matches!(self.steps.last(), Some(Step::Index(_))) => {
                Some("remove the entry, or write its value".to_owned())
            }
            Value::Null if self.required => Some("it is required: write its value".to_owned()),
            Value::Null => Some("leave the field out".to_owned()),
            Value::Object(map) if text => quoted_entry(map),
            Value::Number(number) if schema.get("format").is_some_and(|it| it == "duration") => {
                Some(format!("write its unit, for example {number}s"))
            }
            // YAML has read `1.10` as the number 1.1.
            Value::Number(number) if text && number.is_f64() => Some("quote it".to_owned()),
            Value::Number(number) if text => Some(format!("quote it: \"{number}\"")),
            Value::Bool(word) if text => Some(format!("quote it: \"{word}\"")),
            Value::String(text) => one_entry(schema, text).or_else(|| instead(&expected, text)),
            Value::Object(_) if expected.contains(&"array") => {
                Some("write it as a list: each entry begins with -".to_owned())
            }
            Value::Number(_) | Value::Bool(_) | Value::Object(_) => None,
            Value::Array(_) => None,
        };
        self.add(match hint {
            Some(hint) => violation.hint(hint),
            None => violation,
        });
    }

    /// Kubernetes' own programs write `creationTimestamp: null`.
    fn tolerates_null(&self) -> bool {
        let metadata = matches!(self.steps.first(), Some(Step::Field("metadata")));
        metadata || self.kind.info().group != crate::kind::GROUP
    }

    fn map(&mut self, schema: &'a Value, map: &'a Map<String, Value>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        self.maps.extend(properties.map(|properties| (self.steps.len(), properties)));
        let required: Vec<&str> = required_of(schema).collect();
        for (field, value) in map {
            if self.steps.is_empty() && field == "status" {
                continue;
            }
            if field.contains('\0') {
                self.say("a NUL character is not allowed");
            }
            let known = properties.and_then(|properties| properties.get(field));
            let open = others.filter(|schema| **schema != Value::Bool(false));
            match known.or(open) {
                Some(schema) => {
                    self.required = required.contains(&field.as_str());
                    self.down(Step::Field(field), schema, value);
                }
                // A schema without properties and without `additionalProperties` allows any field.
                None if properties.is_none() && others.is_none() => {
                    self.down(Step::Field(field), &Value::Bool(true), value);
                }
                None => self.unknown_field(field, value, properties),
            }
        }
        if properties.is_some() {
            self.maps.pop();
        }
        for field in required {
            if !map.contains_key(field) {
                self.steps.push(Step::Field(field));
                self.say(IS_REQUIRED);
                self.steps.pop();
            }
        }
    }

    fn unknown_field(
        &mut self,
        field: &'a str,
        value: &Value,
        properties: Option<&'a Map<String, Value>>,
    ) {
        // Beyond the limit nothing is reported, and searching for similar names would only take
        // time.
        if self.found.len() >= VIOLATIONS_MAX {
            return;
        }
        let section = self.section();
        self.steps.push(Step::Field(field));
        let path = self.path();
        self.steps.pop();
        let known: Vec<&str> =
            properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let violation = words::unknown_field(section, &path, (field, value), &known);
        let elsewhere = || self.elsewhere(field, properties);
        let hint = if violation.hint.is_none() { elsewhere() } else { None };
        self.add(match hint {
            Some(hint) => violation.hint(hint),
            None => violation,
        });
    }

    /// The path at which a field that is unknown here would be valid: in a surrounding map, or in
    /// one that this map contains.
    fn elsewhere(&self, field: &str, here: Option<&Map<String, Value>>) -> Option<String> {
        let around = self.maps.iter().rev().skip(usize::from(here.is_some()));
        for (steps, properties) in around {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            // Many fields are similar to a very short word, so a short word must match exactly.
            let is_meant = |meant: &&str| *meant == field || field.len() >= FAR_CHARS_MIN;
            let Some(meant) = words::meant(field, &known).filter(is_meant) else { continue };
            let there = match self.path_of(*steps) {
                path if path.is_empty() => "at the top of the document".to_owned(),
                path => format!("in {path}"),
            };
            return Some(if meant == field {
                format!("{meant} belongs {there}")
            } else {
                format!("did you mean {meant}? It belongs {there}")
            });
        }
        let holds = |(_, schema): &(&String, &Value)| {
            fields_of(schema).is_some_and(|fields| fields.contains_key(field))
        };
        let (inner, _) = here?.iter().find(holds)?;
        Some(format!("{field} belongs in {inner}"))
    }

    /// Which kind of map this is, which decides about hints for unknown words.
    fn section(&self) -> words::Section {
        let fields: Vec<&str> = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Field(field) => Some(*field),
                Step::Index(_) => None,
            })
            .collect();
        words::Section::of(self.kind, &fields)
    }

    fn list(&mut self, schema: &'a Value, list: &'a [Value]) {
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let items = schema.get("items").unwrap_or(&Value::Bool(true));
        for (index, value) in list.iter().enumerate() {
            let schema = prefix.and_then(|prefix| prefix.get(index)).unwrap_or(items);
            self.down(Step::Index(index), schema, value);
        }
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
        if u64::try_from(list.len()).is_ok_and(|is| is < least) {
            let violation = Violation::new(self.path(), format!("at least {least} is required"));
            self.add(violation.hint("leave the field out"));
        }
    }

    fn word(&mut self, words: &[&str], value: &Value) {
        let Value::String(text) = value else {
            let message =
                format!("expected one of {}, found {}", words.join(", "), found_name(value));
            return self.say(message);
        };
        if words.contains(&text.as_str()) || (self.partial && text.contains("$(")) {
            return;
        }
        let here = self.steps.pop();
        let section = self.section();
        self.steps.extend(here);
        self.add(words::unknown_word(section, &self.path(), text, words));
    }

    fn text(&mut self, schema: &Value, text: &str) {
        if text.contains('\0') {
            return self.say("a NUL character is not allowed");
        }
        if self.partial && text.contains("$(") {
            return;
        }
        let wrong = match schema.get("format").and_then(Value::as_str) {
            Some("duration") => Duration::written(text).err().map(|error| error.to_string()),
            Some("quantity") => text.parse::<Quantity>().err().map(|error| error.to_string()),
            Some("date-time") => text
                .parse::<Timestamp>()
                .err()
                .map(|_| format!("{text:?} is not a time; write for example 2026-01-02T15:04:05Z")),
            Some("byte") => STANDARD.decode(text).err().map(|_| "it is not base64".to_owned()),
            Some("number-or-percent") => {
                let percent = text.strip_suffix('%').and_then(|it| it.parse::<u32>().ok());
                percent.is_none_or(|percent| percent > 100).then(|| {
                    format!("{text:?} is not a share; write a number, or for example \"10%\"")
                })
            }
            // Whether a port has that name is for the rules of probes to say.
            Some("port-or-name") => text.is_empty().then(|| "a port is required".to_owned()),
            _ => None,
        };
        let Some(wrong) = wrong else { return };
        let (why, hint) = wrong.split_once("; ").unwrap_or((&wrong, ""));
        let violation = Violation::new(self.path(), why);
        self.add(if hint.is_empty() { violation } else { violation.hint(hint) });
    }

    fn number(&mut self, schema: &Value, value: &Value) {
        let format = schema.get("format").and_then(Value::as_str);
        let bounds = match format {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") | Some("port-or-name") => (0, i128::from(u16::MAX)),
            Some("uint32") | Some("number-or-percent") => (0, i128::from(u32::MAX)),
            Some("uint64") => (0, i128::from(u64::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Some("int64") => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Some("quantity") => {
                let text = value.to_string();
                if text.parse::<Quantity>().is_err() {
                    let violation =
                        Violation::new(self.path(), format!("{text} is not a quantity"));
                    self.add(violation.hint("write for example 2, 500m, 64Mi or 1.5Gi"));
                }
                return;
            }
            _ => return,
        };
        let whole = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
        if whole.is_some_and(|whole| (bounds.0..=bounds.1).contains(&whole)) {
            // The rule of the field itself gives a better message about its range.
            return;
        }
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(i128::from);
        let least = bound("minimum").unwrap_or(bounds.0).max(bounds.0);
        let most = bound("maximum").unwrap_or(bounds.1).min(bounds.1);
        let is_open = least >= 0 && most > i128::from(u16::MAX) && bound("maximum").is_none();
        let range = if is_open && whole.is_none_or(|whole| whole <= most) {
            format!("of at least {least}")
        } else {
            format!("from {least} to {most}")
        };
        self.say(format!("{value} is not a whole number {range}"));
    }
}

/// The alternatives of a schema that has some.
pub(super) fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf"))?;
    Some(list.as_array()?.iter().collect())
}

/// The fields of a map, or of the maps in a list.
fn fields_of(schema: &Value) -> Option<&Map<String, Value>> {
    let inner =
        alternatives(schema).into_iter().flatten().find(|it| it.get("properties").is_some());
    let schema = inner.unwrap_or(schema);
    let schema = schema.get("items").unwrap_or(schema);
    schema.get("properties")?.as_object()
}

/// The required fields of a map.
pub(super) fn required_of(schema: &Value) -> impl Iterator<Item = &str> {
    let required = schema.get("required").and_then(Value::as_array);
    required.into_iter().flatten().filter_map(Value::as_str)
}

/// The words that a schema allows as values.
pub(super) fn words_of(schema: &Value) -> impl Iterator<Item = &str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    listed.chain(schema.get("const")).filter_map(Value::as_str).chain(
        alternatives(schema).into_iter().flatten().filter_map(|inner| inner.get("const")?.as_str()),
    )
}

pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether the schema allows a value of this type.
fn allows(schema: &Value, value: &Value) -> bool {
    if let Some(alternatives) = alternatives(schema) {
        return alternatives.into_iter().any(|schema| allows(schema, value));
    }
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|one| match *one {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" | "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => true,
        })
}

fn type_name(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

fn found_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What to write in place of a text where a map with one required field, or a list of such
/// maps, is expected: for `a` the hint is `{job: a}`.
fn one_entry(schema: &Value, text: &str) -> Option<String> {
    let is_list = types(schema).contains(&"array");
    let map = if is_list { schema.get("items")? } else { schema };
    let [field] = map.get("required")?.as_array()?.as_slice() else { return None };
    // If the text is more than a name, something else was meant.
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let entry = format!("{{{}: {text}}}", field.as_str()?);
    let hint = if is_list { format!("write [{entry}]") } else { format!("write {entry}") };
    (is_name && hint.len() <= HINT_BYTES_MAX).then_some(hint)
}

/// What to write in place of a map with one entry where a text is expected: YAML reads `echo a:
/// b` as such a map.
fn quoted_entry(map: &Map<String, Value>) -> Option<String> {
    let mut entries = map.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else { return None };
    let value = match value {
        Value::Null => String::new(),
        Value::String(text) => format!(" {text}"),
        Value::Bool(_) | Value::Number(_) => format!(" {value}"),
        Value::Array(_) | Value::Object(_) => return None,
    };
    let hint = format!("quote it: {:?}", format!("{key}:{value}"));
    Some(if hint.len() <= HINT_BYTES_MAX { hint } else { "quote it".to_owned() })
}

/// What to write for a text that expresses the expected type in another way. `01` and `1_000` are
/// read as texts here, because YAML readers differ in which number they mean.
fn instead(expected: &[&str], text: &str) -> Option<String> {
    if expected.contains(&"integer") {
        let digits = text.replace('_', "");
        let number = digits.parse::<i64>().ok()?;
        let is_plain = number.to_string() == text;
        return Some(if is_plain {
            "remove the quotes".to_owned()
        } else {
            format!("write {number}")
        });
    }
    if expected.contains(&"boolean") {
        return match text.to_ascii_lowercase().as_str() {
            "true" | "false" if matches!(text, "true" | "false") => {
                Some("remove the quotes".to_owned())
            }
            "true" | "yes" | "on" | "y" => Some("write true".to_owned()),
            "false" | "no" | "off" | "n" => Some("write false".to_owned()),
            _ => None,
        };
    }
    match (expected.contains(&"array"), expected.contains(&"object")) {
        (true, _) => Some(as_list(text)),
        (false, true) if text.is_empty() => Some("leave the field out".to_owned()),
        (false, _) => None,
    }
}

/// A text rewritten as a list of its words.
fn as_list(text: &str) -> String {
    const LIST: &str = "write it as a list:";
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=@+%".contains(c);
    let entry = |word: &str| {
        let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
        let is_text = word.parse::<f64>().is_err()
            && !word.starts_with(|c: char| c.is_ascii_digit() || "+.@%".contains(c))
            && !other.contains(&word.to_ascii_lowercase().as_str())
            && word != "-";
        if is_text { word.to_owned() } else { format!("\"{word}\"") }
    };
    let words: Vec<String> = text.split_whitespace().map(entry).collect();
    let hint = format!("{LIST} [{}]", words.join(", "));
    // A text with shell quotes, or with characters that are special in YAML, cannot be split at
    // spaces.
    let is_plain = text.chars().all(|c| is_plain(c) || c == ' ');
    if is_plain && hint.len() <= HINT_BYTES_MAX {
        hint
    } else {
        format!("{LIST} each entry begins with -")
    }
}
