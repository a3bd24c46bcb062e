//! `hctl debug bundle`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::KindId;
use api::kind::{GROUP, VERSION};
use client::{ListOptions, object_path};
use http::Method;
use serde_json::{Value, json};

use crate::bundle::{Bundle, redact};
use crate::connection::{Connection, Query, VERSION_PATH};
use crate::failure::Failure;
use crate::output::Columns;
use crate::terminal;

/// Most objects of a kind: enough to see their state, without all of a million.
const OBJECTS_MAX: usize = 5_000;
/// Objects in a page.
const PAGE_OBJECTS: u32 = 500;
/// Kinds that are not read at all, because they consist of confidential data.
const SECRET_KINDS: [KindId; 2] = [KindId::Secret, KindId::ConfigMap];

pub(super) async fn bundle(connection: &Connection, file: Option<PathBuf>) -> Result<(), Failure> {
    let now = connection.clock.now();
    let folder = format!("heliox-debug-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if file.exists() {
        return Err(taken(&file));
    }
    let mut bundle = Bundle::default();
    let mut missing = Vec::new();
    // If this fails, everything else would fail as well.
    let version = connection.read(VERSION_PATH).await?;
    let about = json!({
        "takenAt": now.to_string(),
        "client": format!("v{}", env!("CARGO_PKG_VERSION")),
        "server": version,
    });
    put(&mut bundle, &mut missing, "version.json", pretty(&about));
    for (name, path) in [("readyz.txt", "/readyz"), ("metrics.txt", "/metrics")] {
        // The refusal of a server that is not ready contains the reasons.
        let text = match connection.client().bytes(Method::GET, path, None).await {
            Ok(text) => text.to_vec(),
            Err(error) => format!("error: {}\n", base::ErrorChain(&error)).into_bytes(),
        };
        put(&mut bundle, &mut missing, name, text);
    }
    match connection.read(&format!("/apis/{GROUP}/{VERSION}/cluster")).await {
        Ok(cluster) => put(&mut bundle, &mut missing, "cluster.json", pretty(&cluster)),
        Err(failure) => missing.push(format!("cluster.json: {}", failure.message)),
    }
    for kind in KindId::ALL {
        if !kind.info().internal && !SECRET_KINDS.contains(&kind) {
            objects(connection, kind, &mut bundle, &mut missing).await;
        }
    }
    if !missing.is_empty() {
        bundle.put("missing.txt", (missing.join("\n") + "\n").into_bytes());
    }
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    write(&file, &bundle.archive(&folder, seconds)?)?;
    tell(&file, &bundle, &missing)
}

/// Adds the objects of a kind in all namespaces.
async fn objects(
    connection: &Connection,
    kind: KindId,
    bundle: &mut Bundle,
    missing: &mut Vec<String>,
) {
    let name = format!("objects/{}.json", kind.info().plural);
    let options = ListOptions { limit: Some(PAGE_OBJECTS), ..ListOptions::default() };
    let mut query = Query { kind, namespace: String::new(), options };
    let mut found = Vec::new();
    loop {
        let mut page = match connection.read(&query.path()).await {
            Ok(page) => page,
            Err(failure) => {
                missing.push(format!("{name}: {}", failure.message));
                break;
            }
        };
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            found.extend(items);
        }
        let next = page["metadata"]["continue"].as_str().filter(|next| !next.is_empty());
        query.options.next = next.map(str::to_owned);
        if query.options.next.is_none() {
            break;
        }
        if found.len() >= OBJECTS_MAX {
            let all = object_path(kind, "", "");
            missing.push(format!("{name}: cut after {} objects of {all}", found.len()));
            break;
        }
    }
    found.iter_mut().for_each(redact);
    put(bundle, missing, &name, pretty(&Value::Array(found)));
}

fn put(bundle: &mut Bundle, missing: &mut Vec<String>, name: &str, content: Vec<u8>) {
    let bytes = content.len();
    if !bundle.put(name, content) {
        missing.push(format!("{name}: its {bytes} bytes are too many"));
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn taken(file: &Path) -> Failure {
    Failure::new(format!("{} exists already", file.display()))
        .hint("choose another file with --file, or delete this one")
}

fn write(file: &Path, archive: &[u8]) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(archive));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
}

fn tell(file: &Path, bundle: &Bundle, missing: &[String]) -> Result<(), Failure> {
    let row = |(name, bytes): (&str, usize)| [name.to_owned(), format!("{bytes} bytes")];
    let rows: Vec<[String; 2]> = bundle.files().map(row).collect();
    terminal::note(&Columns::default().lines(rows.iter().map(|row| row.as_slice())));
    for line in missing {
        terminal::note(&format!("not in it: {line}"));
    }
    terminal::note(
        "Left out: Secrets, ConfigMaps, and the values of annotations, environment variables, commands, \
         arguments, items and parameters. Included: names, images, labels, paths, and messages unchanged. \
         Review the archive before you send it.",
    );
    terminal::print_line(&file.display().to_string())
}
