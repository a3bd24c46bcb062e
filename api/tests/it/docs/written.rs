//! The pages that people write: their links lead somewhere, their manifests are right, and they leave
//! out nothing that the code has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::manifest;
use api::task::reason;

use super::{DOCS, files_in};

/// A page with its text.
struct Written {
    path: PathBuf,
    text: String,
}

impl Written {
    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    /// What lines of text link to; code is left out.
    fn links(&self) -> Vec<&str> {
        let mut in_code = false;
        let lines = self.text.lines().filter(|line| {
            in_code ^= line.trim_start().starts_with("```");
            !in_code
        });
        // `[text](target)`: a target has no spaces.
        let targets = lines.flat_map(|line| line.split("](").skip(1));
        targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
    }

    /// The anchors of its headings, as GitHub and GitLab make them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.lines().filter_map(|line| line.strip_prefix('#'));
        let anchor = |heading: &str| -> String {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    /// Its blocks of YAML, each with the number of its first line.
    fn manifests(&self) -> Vec<(usize, String)> {
        let mut blocks = Vec::new();
        let mut block: Option<(usize, String)> = None;
        for (number, line) in self.text.lines().enumerate() {
            match &mut block {
                None if line.trim() == "```yaml" => block = Some((number + 2, String::new())),
                None => (),
                Some(_) if line.trim() == "```" => blocks.extend(block.take()),
                Some((_, text)) => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        blocks
    }
}

fn page(path: &Path) -> Written {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Written { path: path.to_owned(), text }
}

/// Every page in `docs`, and those above it.
fn pages() -> Vec<Written> {
    let mut paths = files_in(DOCS);
    paths.retain(|path| path.extension().is_some_and(|it| it == "md"));
    let above = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
    paths.extend(above.iter().map(|name| Path::new(DOCS).parent().unwrap().join(name)));
    paths.iter().map(|path| page(path)).collect()
}

#[test]
fn docs_link_to_what_is_there() {
    let mut broken = Vec::new();
    for from in pages() {
        for target in from.links().into_iter().filter(|target| !target.starts_with("http")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = from.path.parent().unwrap().join(file);
            let is_there = if file.is_empty() {
                from.anchors().contains(anchor)
            } else {
                path.exists() && (anchor.is_empty() || page(&path).anchors().contains(anchor))
            };
            if !is_there {
                broken.push(format!("{}: {target}", from.name()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn docs_are_all_reached_from_the_first_page() {
    let first = page(Path::new(&format!("{DOCS}/README.md")));
    let links: BTreeSet<&str> = first.links().into_iter().collect();
    let pages =
        files_in(DOCS).into_iter().filter(|path| path.extension().is_some_and(|it| it == "md"));
    let names = pages.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let missing: Vec<String> =
        names.filter(|name| name != "README.md" && !links.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/README.md does not link to {missing:?}");
}

#[test]
fn docs_hold_manifests_that_are_right() {
    for page in pages() {
        for (line, text) in page.manifests() {
            // Parts of a manifest, and those of other tools.
            if !text.contains("apiVersion: heliox.dev/v1\n") {
                continue;
            }
            let at = format!("{}:{line}", page.name());
            let documents = manifest::read(&at, text.as_bytes());
            for document in documents.unwrap_or_else(|problems| panic!("{problems:#?}")) {
                assert_eq!(document.check(), [], "{at}");
            }
        }
    }
}

#[test]
fn docs_explain_every_reason_that_an_attempt_ends_for() {
    let page = page(Path::new(&format!("{DOCS}/troubleshooting.md")));
    let section = page.text.split("\n## ").find(|it| it.starts_with("Reasons\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut explained: Vec<&str> = rows.map(|(reason, _)| reason).collect();
    explained.sort_unstable();
    let mut all = reason::ALL.to_vec();
    all.push(reason::FLAPPING);
    all.sort_unstable();
    assert_eq!(explained, all);
}
