//! Reads manifests from files, folders and stdin.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::manifest::{self, Document, MANIFEST_BYTES_MAX, Problem};

use crate::connection::Connection;
use crate::failure::Failure;

/// The files in a folder that are manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The namespace of the command, and whether manifests may name another.
#[derive(Debug, Clone, Copy)]
pub struct DefaultNamespace<'a> {
    /// The namespace of objects that name none.
    pub namespace: &'a str,
    /// Whether objects that name another namespace are refused. A namespace on the command line is
    /// meant for all objects. One from the environment is not; otherwise manifests with a namespace
    /// could not be applied there.
    pub is_typed: bool,
}

impl<'a> DefaultNamespace<'a> {
    /// As the command line says.
    pub fn of(connection: &'a Connection) -> Self {
        Self { namespace: &connection.namespace, is_typed: connection.is_namespace_typed }
    }
}

/// All documents of all files in the order in which they are applied, with their namespaces filled
/// in.
///
/// # Errors
/// All problems of all files.
pub fn read(paths: &[PathBuf], default: DefaultNamespace<'_>) -> Result<Vec<Document>, Failure> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for path in files(paths, false)? {
        match manifest::read(&path.display().to_string(), &bytes_of(&path)?) {
            Ok(found) => documents.extend(found),
            Err(found) => problems.extend(found),
        }
    }
    for document in &mut documents {
        problems.extend(elsewhere(document, default));
        fill_in(document, default.namespace);
    }
    problems.extend(twice(&documents));
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    if documents.is_empty() {
        return Err(Failure::usage("there is no manifest in what -f names"));
    }
    documents.sort_by_key(|document| document.kind.info().apply_order);
    Ok(documents)
}

fn refuse(problems: Vec<Problem>) -> Failure {
    let many = if problems.len() == 1 { "problem" } else { "problems" };
    let message = format!("{} {many} in the manifests; nothing was sent", problems.len());
    Failure { problems, ..Failure::new(message) }
}

/// Most directories that are searched: more of them can hardly be manifests.
const DIRECTORIES_MAX: usize = 1000;

/// The files in `paths`, with folders replaced by the files in them, recursively if requested.
///
/// # Errors
/// A folder cannot be read, or has no manifests.
pub fn files(paths: &[PathBuf], is_recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = within(path, is_recursive)?;
        if found.is_empty() {
            let message = format!("there is no *.yaml, *.yml or *.json in {}", path.display());
            let failure = Failure::usage(message);
            let hint = "hctl apply -R reads the directories in it, too";
            return Err(if is_recursive { failure } else { failure.hint(hint) });
        }
        files.append(&mut found);
    }
    Ok(files)
}

/// The manifests in a folder, sorted.
fn within(folder: &Path, is_recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut folders, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        seen += 1;
        if seen > DIRECTORIES_MAX {
            let message = format!("there are more than {DIRECTORIES_MAX} directories to read");
            return Err(Failure::usage(message).hint("name those with manifests, each with -f"));
        }
        let unreadable = |error| Failure::new(format!("read {}: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
            // Links to folders are not followed, because they may lead in a circle.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                if is_recursive {
                    folders.push(path);
                }
            } else if EXTENSIONS.contains(&extension) && !path.is_dir() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    // One byte more than allowed, so that the parser reports that the file is too large.
    let bound = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(bound).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(format!("read {}: {error}", path.display()))
            .hint("name a file, a folder, or - for stdin")),
    }
}

/// The problem of an object with another namespace than the command line's.
fn elsewhere(document: &Document, default: DefaultNamespace<'_>) -> Option<Problem> {
    let named = document.value["metadata"]["namespace"].as_str()?;
    let is_elsewhere = document.kind.is_namespaced() && named != default.namespace;
    (default.is_typed && is_elsewhere).then(|| {
        let message = format!("{named:?} is not the namespace of -n, {:?}", default.namespace);
        let violation = api::Violation::new("metadata.namespace", message);
        document.problem(violation.hint(format!("write -n {named}, or leave one of the two out")))
    })
}

fn fill_in(document: &mut Document, namespace: &str) {
    let is_placed = document.value["metadata"].get("namespace").is_some();
    if document.kind.is_namespaced()
        && !is_placed
        && let Some(metadata) = document.value.get_mut("metadata").and_then(|it| it.as_object_mut())
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
}

/// The problems of objects that are described more than once.
fn twice(documents: &[Document]) -> Vec<Problem> {
    let identity = |document: &Document| {
        let metadata = &document.value["metadata"];
        let part = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        (document.kind, part("namespace"), part("name"))
    };
    let mut found = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let (kind, namespace, name) = identity(document);
        let before = documents[..index].iter().any(|other| identity(other) == identity(document));
        if before && !name.is_empty() {
            let message =
                format!("{kind} {name:?} of namespace {namespace:?} was described before");
            let violation = api::Violation::new("metadata.name", message);
            found.push(document.problem(violation.hint("choose another name, or leave one out")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use api::KindId;
    use serde_json::Value;

    use super::*;

    const JOB: &str = "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\n\
                       spec: {template: {image: busybox}}\n";
    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: data}\n";

    /// A namespace that is not from the command line.
    fn meant(namespace: &str) -> DefaultNamespace<'_> {
        DefaultNamespace { namespace, is_typed: false }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn what_others_need_comes_first_and_namespaces_are_filled_in() {
        let folder =
            folder(&[("a.yaml", JOB), ("b.yml", NAMESPACE), ("notes.txt", "no: manifest")]);
        let documents = read(&[folder.path().to_owned()], meant("data")).unwrap();
        let kinds: Vec<KindId> = documents.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [KindId::Namespace, KindId::Job]);
        assert_eq!(documents[1].value["metadata"]["namespace"], "data");
        assert!(documents[0].value["metadata"].get("namespace").is_none());
    }

    #[test]
    fn an_object_is_not_made_elsewhere_than_was_typed() {
        let within = |namespace: &str| {
            JOB.replace("{name: a}", &format!("{{name: {namespace}-a, namespace: {namespace}}}"))
        };
        let text = format!("{NAMESPACE}---\n{}---\n{}---\n{JOB}", within("data"), within("team"));
        let folder = folder(&[("a.yaml", &text)]);
        let paths = [folder.path().join("a.yaml")];
        let failure =
            read(&paths, DefaultNamespace { namespace: "team", is_typed: true }).unwrap_err();
        let told: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = "a.yaml:7:26: metadata.namespace: \"data\" is not the namespace of -n, \
                        \"team\"\n  hint: write -n data, or leave one of the two out";
        assert!(told[0].ends_with(expected), "{told:?}");
        let told: Vec<_> = read(&paths, meant("team"))
            .unwrap()
            .iter()
            .map(|it| it.value["metadata"].clone())
            .collect();
        assert_eq!(told[1]["namespace"], "data");
    }

    #[test]
    fn everything_wrong_in_every_file_is_said_at_once() {
        let bad = JOB.replace("image:", "imagee:");
        let folder = folder(&[("a.yaml", &bad), ("b.yaml", "{"), ("c.yaml", JOB)]);
        let failure = read(&[folder.path().to_owned()], meant("default")).unwrap_err();
        let files: Vec<bool> = ["a.yaml", "b.yaml", "c.yaml"]
            .map(|file| failure.problems.iter().any(|it| it.source.ends_with(file)))
            .into();
        assert_eq!(files, [true, true, false]);
        assert!(failure.problems.iter().all(|it| it.line > 0), "{:?}", failure.problems);
        assert!(failure.message.ends_with("nothing was sent"));
    }

    #[test]
    fn a_list_stands_for_what_is_in_it() {
        let item = |name: &str, image: &str| {
            format!(
                "- apiVersion: heliox.dev/v1\n  kind: Job\n  metadata: {{name: {name}}}\n  \
                 spec: {{template: {{{image}: busybox}}}}\n"
            )
        };
        let list = |second: &str| {
            let items = item("a", "image") + &item("b", second);
            let text = format!("apiVersion: v1\nkind: List\nitems:\n{items}");
            let folder = folder(&[("a.yaml", &text)]);
            read(&[folder.path().join("a.yaml")], meant("default"))
        };
        let documents = list("image").unwrap();
        let names: Vec<&Value> = documents.iter().map(|it| &it.value["metadata"]["name"]).collect();
        assert_eq!(names, ["a", "b"]);
        let failure = list("imagee").unwrap_err();
        let told: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
        assert!(
            told[1].contains("a.yaml:11:21: items[1].spec.template.imagee: unknown field"),
            "{told:?}"
        );
    }

    #[test]
    fn an_object_is_described_once() {
        let folder = folder(&[("a.yaml", &format!("{JOB}---\n{JOB}"))]);
        let failure = read(&[folder.path().join("a.yaml")], meant("default")).unwrap_err();
        assert_eq!(failure.problems.len(), 1);
        assert_eq!(failure.problems[0].line, 8);
    }

    #[test]
    fn what_is_no_text_is_said_and_others_files_of_a_folder_are_left() {
        let folder =
            folder(&[("a.yaml", JOB), ("README.md", "# no manifest"), ("b.yaml.bak", "{")]);
        assert_eq!(read(&[folder.path().to_owned()], meant("default")).unwrap().len(), 1);
        let image = folder.path().join("image.yaml");
        fs::write(&image, [0x7f, b'E', b'L', b'F', 0xff, 0xfe]).unwrap();
        let failure = read(&[image], meant("default")).unwrap_err();
        let told: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].ends_with("image.yaml: not UTF-8 text: invalid byte at position 4"),
            "{told:?}"
        );
    }

    #[test]
    fn missing_files_and_empty_folders_are_errors() {
        let folder = folder(&[]);
        assert!(read(&[folder.path().to_owned()], meant("default")).is_err());
        let failure = read(&[folder.path().join("none")], meant("default")).unwrap_err();
        assert!(failure.hint.is_some());
    }

    #[test]
    fn folders_within_folders_are_read_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("x.yaml"), "").unwrap();
        fs::write(below.join("x.txt"), "").unwrap();
        // A link to its own parent does not cause an endless search.
        std::os::unix::fs::symlink(folder.path(), below.join("back")).unwrap();
        let paths = [folder.path().to_owned()];
        assert_eq!(files(&paths, true).unwrap(), [below.join("x.yaml")]);
        let failure = files(&paths, false).unwrap_err();
        assert_eq!(failure.hint.unwrap(), "hctl apply -R reads the directories in it, too");
        for number in 0..DIRECTORIES_MAX {
            fs::create_dir(folder.path().join(number.to_string())).unwrap();
        }
        let failure = files(&paths, true).unwrap_err();
        assert_eq!(failure.message, "there are more than 1000 directories to read");
    }
}
