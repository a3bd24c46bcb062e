//! Finds files of a crate that use each other in a circle, which no lint does.
//! A reader of a file needs to know what it uses, so a circle of files can only be read as a whole.
//! A file may use items of the modules above it: that is how the files of a folder share types.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tidy::{read, rust_files};

/// The path of a module within its crate; empty for the crate itself.
type Module = Vec<String>;

/// The modules of each crate, with the text of their files. Tests may use anything.
fn modules() -> BTreeMap<String, BTreeMap<Module, String>> {
    let mut crates: BTreeMap<String, BTreeMap<Module, String>> = BTreeMap::new();
    for file in rust_files() {
        let Some((crate_name, path)) = file.split_once("/src/") else { continue };
        if path.ends_with("tests.rs") || path.contains("tests/") {
            continue;
        }
        let mut module: Module =
            path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        let text = crates.entry(crate_name.to_owned()).or_default().entry(module).or_default();
        text.push_str(&code(&read(&file)));
    }
    crates
}

/// The text without comments and without its test module.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Every path that begins with `crate`, `super` or `self`. Each name in braces makes a path of its
/// own.
fn paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let is_inner = code[..at].ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c));
            if !is_inner {
                expand(&mut Module::new(), &mut &code[at..], &mut found);
            }
        }
    }
    found
}

/// Reads a path at the start of `rest`, after `before`.
fn expand(before: &mut Module, rest: &mut &str, found: &mut Vec<Module>) {
    let depth = before.len();
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        before.push(name.to_owned());
        *rest = after;
        match rest.strip_prefix("::") {
            Some(after) => *rest = after,
            None => break,
        }
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner;
            expand_list(before, rest, found);
            before.truncate(depth);
            return;
        }
    }
    found.push(before.clone());
    before.truncate(depth);
}

/// Reads a list in braces at the start of `rest`.
fn expand_list(before: &mut Module, rest: &mut &str, found: &mut Vec<Module>) {
    while !rest.is_empty() {
        *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix('}') {
            *rest = after;
            return;
        }
        expand(before, rest, found);
        // Between a name and the next one, there may be `as` and another name.
        *rest = rest.trim_start_matches(|c: char| c != ',' && c != '}');
    }
}

/// The module, among `known`, that contains what a path in `module` names.
fn target(module: &Module, path: &[String], known: &BTreeSet<&Module>) -> Module {
    let mut names = path.iter().peekable();
    let mut base = match names.next_if(|name| *name == "crate" || *name == "self") {
        Some(name) if name == "crate" => Module::new(),
        Some(_) | None => module.clone(),
    };
    while names.next_if(|name| *name == "super").is_some() {
        base.pop();
    }
    for name in names {
        base.push(name.clone());
        if !known.contains(&base) {
            base.pop();
            break;
        }
    }
    base
}

/// The modules that each module uses, other than those above it.
fn uses(texts: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let known: BTreeSet<&Module> = texts.keys().collect();
    let of = |(module, text): (&Module, &String)| {
        let all = paths(text).into_iter().map(|path| target(module, &path, &known));
        let others = all.filter(|to| !module.starts_with(to));
        (module.clone(), others.collect())
    };
    texts.iter().map(of).collect()
}

/// The shortest circle through `start`, if there is one.
fn circle(start: &Module, uses: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in uses.get(way.last()?).into_iter().flatten() {
            let longer = [way.clone(), vec![next.clone()]].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[test]
fn files_of_a_crate_do_not_use_each_other_in_a_circle() {
    for (crate_name, texts) in modules() {
        let uses = uses(&texts);
        for module in texts.keys() {
            let found = circle(module, &uses);
            let shown: Vec<String> =
                found.iter().flatten().map(|module| module.join("::")).collect();
            assert!(
                found.is_none(),
                "{crate_name}: files use each other in a circle: {}; move what they share into a file \
                 of its own",
                shown.join(" -> ")
            );
        }
    }
}

#[test]
fn paths_in_braces_are_found_one_by_one() {
    let code = "use crate::a::{B, c::{D as E, self}, f};\nlet x = super::g::H;\npub(crate) mod y;";
    let found: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        ["crate::a::B", "crate::a::c::D", "crate::a::c::self", "crate::a::f", "super::g::H"]
    );
}
