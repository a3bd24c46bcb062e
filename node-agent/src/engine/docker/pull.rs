//! Fetches images: how far one has come, with whose credentials, and why one cannot be had.

use std::collections::BTreeMap;
use std::path::Path;

use api::task::report::is_image_digest;
use base::ErrorChain;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;
use tokio::time::timeout;

use super::classify::{Stage, classify, message};
use super::registry_auth::{Login, login};
use super::{DockerEngine, PULL_TIMEOUT};
use crate::engine::{ContainerSpec, EngineError, PullProgress, Reason};
use crate::resolve::repository;

impl DockerEngine {
    pub(super) async fn fetch(
        &self,
        image: &str,
        progress: &PullProgress,
    ) -> Result<(), EngineError> {
        let refused =
            |why: String| EngineError::refused(Reason::ImagePull, format!("image {image}: {why}"));
        let login = self.login(image).await.map_err(&refused)?;
        let (credentials, note) = match login {
            Login::With { username, password } => {
                let credentials = DockerCredentials {
                    username: Some(username),
                    password: Some(password),
                    ..DockerCredentials::default()
                };
                (Some(credentials), None)
            }
            Login::Without(note) => (None, note),
        };
        // Without a tag Docker would pull all tags.
        let has_tag = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let from = if has_tag { image.to_owned() } else { format!("{image}:latest") };
        let options = CreateImageOptionsBuilder::new().from_image(&from).build();
        let mut layers = Layers::default();
        let pull =
            self.docker.create_image(Some(options), None, credentials).try_for_each(|told| {
                layers.take(&told);
                progress.tell(layers.percent());
                std::future::ready(Ok(()))
            });
        match timeout(PULL_TIMEOUT, pull).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => match classify(&error, Stage::Ask) {
                // The connection to the engine was lost.
                lost @ EngineError::Unavailable { .. } => Err(lost),
                EngineError::Refused { .. }
                | EngineError::NeedsImage
                | EngineError::Failed { .. }
                | EngineError::Unknown { .. }
                | EngineError::Gone => {
                    let note = note.map(|note| format!("; {note}")).unwrap_or_default();
                    let why = sentence(&message(&error));
                    Err(refused(format!("{why}{}{note}", advice(image, &why))))
                }
            },
            Err(_) => {
                let minutes = PULL_TIMEOUT.as_secs() / 60;
                Err(refused(format!("not fetched within {minutes} minutes")))
            }
        }
    }

    /// The digest of a container's image, where it is asked for and a registry knows the image.
    pub(super) async fn digest_of(&self, spec: &ContainerSpec) -> Option<Box<str>> {
        if !spec.wants_digest {
            return None;
        }
        // Without an answer the tag counts for one more time.
        let image = self.ask(self.docker.inspect_image(&spec.image)).await.ok()?;
        let known = image.repo_digests.unwrap_or_default();
        known.iter().find_map(|known| digest_in(known, &spec.image)).map(Box::from)
    }

    /// The credentials for the registry of an image, read anew for each pull: somebody may have logged
    /// in meanwhile.
    async fn login(&self, image: &str) -> Result<Login, String> {
        let Some(path) = self.config.docker_config.clone() else { return Ok(Login::Without(None)) };
        let read = base::blocking("credentials", {
            let path = path.clone();
            move || std::fs::read_to_string(path)
        });
        match read.await? {
            Ok(text) => login(&text, image).map_err(|why| named(&path, &why)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Login::Without(None)),
            Err(error) => Err(named(&path, &ErrorChain(&error).to_string())),
        }
    }
}

/// The digest in a name by digest, where that is of the same repository as the image.
fn digest_in<'a>(known: &'a str, image: &str) -> Option<&'a str> {
    /// As the engine writes it: without the registry that is meant where none is named.
    fn short(name: &str) -> &str {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        name.strip_prefix("library/").unwrap_or(name)
    }
    let (name, digest) = known.split_once('@')?;
    (short(name) == short(repository(image)) && is_image_digest(digest)).then_some(digest)
}

fn named(path: &Path, why: &str) -> String {
    format!("credentials of registries cannot be read from {}: {why}", path.display())
}

/// How much of each layer of an image is there, in bytes, and how large it is.
#[derive(Debug, Default)]
struct Layers {
    by_id: BTreeMap<String, (u64, Option<u64>)>,
    percent: u8,
}

impl Layers {
    /// Takes in what the engine tells of one layer.
    fn take(&mut self, told: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&told.id, &told.status) else { return };
        let detail = told.progress_detail.as_ref();
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let current = detail.and_then(|detail| number(detail.current));
        let total = detail.and_then(|detail| number(detail.total)).filter(|total| *total > 0);
        match status.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.by_id.entry(id.clone()).or_default();
            }
            "Downloading" => {
                let layer = self.by_id.entry(id.clone()).or_default();
                *layer = (current.unwrap_or(layer.0), total.or(layer.1));
            }
            "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete" => {
                // A small layer is there before anything is told of its size.
                let layer = self.by_id.entry(id.clone()).or_default();
                let size = layer.1.unwrap_or(1);
                *layer = (size, Some(size));
            }
            // What the node has already, and words about the whole image, which have its tag as id.
            _ => (),
        }
    }

    /// How much of the image has been downloaded; nothing before that is known. It never goes back. A
    /// layer whose size is not known yet counts as large as the others.
    fn percent(&mut self) -> Option<u8> {
        let known: Vec<(u64, u64)> =
            self.by_id.values().filter_map(|(done, total)| Some((*done, (*total)?))).collect();
        let sum = |of: fn(&(u64, u64)) -> u64| known.iter().map(of).map(u128::from).sum::<u128>();
        let (done, total) = (sum(|layer| layer.0), sum(|layer| layer.1));
        let all = (total * self.by_id.len() as u128).checked_div(known.len() as u128)?;
        let percent = (done * 100).checked_div(all)?.min(100);
        self.percent = self.percent.max(u8::try_from(percent).unwrap_or(100));
        Some(self.percent)
    }
}

const NO_SUCH: &str = "the registry has no such image or tag";

/// What to do where the image of a revision is not in its registry any more.
fn advice(image: &str, why: &str) -> &'static str {
    if image.contains('@') && why.starts_with(NO_SUCH) {
        "; push it again, or roll out another revision"
    } else {
        ""
    }
}

/// What kind of failure the engine's words are about, for people, with these words.
fn sentence(text: &str) -> String {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // In this order: the words of a refused login may name an image, too.
    let kind = if has(&["no basic auth credentials", "unauthorized", "authentication required"]) {
        "the registry refuses the login: run `docker login` on the node, or correct its credentials"
    } else if has(&["manifest unknown", "name unknown", "repository name not known"])
        || (has(&["not found"]) && has(&["manifest"]))
    {
        NO_SUCH
    } else if has(&["pull access denied", "denied: ", "insufficient_scope"]) {
        "the registry has no such image, or these credentials may not read it"
    } else if has(&["timeout", "deadline exceeded", "Client.Timeout"]) {
        "the registry does not answer in time"
    } else if has(&["connection refused", "no such host", "no route to host", "unreachable"])
        || has(&["connection reset", "server misbehaving", "EOF", "Temporary failure"])
    {
        "the registry cannot be reached"
    } else if has(&["x509", "certificate", "HTTP response to HTTPS client"]) {
        "the registry has no certificate that the node's engine trusts"
    } else if has(&["toomanyrequests", "Too Many Requests"]) {
        "the registry allows no more pulls at present"
    } else {
        return text.to_owned();
    };
    format!("{kind} ({text})")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn percents(told: &[Value]) -> Vec<Option<u8>> {
        let mut layers = Layers::default();
        let mut percent = |told: &Value| {
            layers.take(&serde_json::from_value(told.clone()).unwrap());
            layers.percent()
        };
        told.iter().map(&mut percent).collect()
    }

    #[test]
    fn how_far_a_pull_has_come_is_counted_over_all_layers_and_never_goes_back() {
        let of = |id: &str, status: &str, current: u64, total: u64| {
            let detail = json!({ "current": current, "total": total });
            json!({ "id": id, "status": status, "progressDetail": detail })
        };
        let told = [
            json!({ "id": "1.36", "status": "Pulling from team/app" }),
            json!({ "id": "a", "status": "Pulling fs layer", "progressDetail": {} }),
            json!({ "id": "b", "status": "Pulling fs layer", "progressDetail": {} }),
            json!({ "id": "c", "status": "Already exists", "progressDetail": {} }),
            of("a", "Downloading", 50, 100),
            of("a", "Downloading", 100, 100),
            of("b", "Downloading", 0, 1900),
            of("b", "Downloading", 1400, 1900),
            of("a", "Extracting", 10, 100),
            json!({ "id": "b", "status": "Download complete", "progressDetail": {} }),
        ];
        let expected =
            [None, None, None, None, Some(25), Some(50), Some(50), Some(75), Some(75), Some(100)];
        assert_eq!(percents(&told), expected);
    }

    #[test]
    fn the_digest_is_that_of_the_same_repository() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (known, image, is_its) in [
            ("busybox", "busybox:1.36", true),
            ("busybox", "docker.io/library/busybox", true),
            ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app", true),
            ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app:1@sha256:00", true),
            ("mirror:5000/busybox", "busybox", false),
        ] {
            let known = format!("{known}@{digest}");
            let found = digest_in(&known, image);
            assert_eq!(found, is_its.then_some(digest.as_str()), "{known} {image}");
        }
        assert_eq!(digest_in("busybox@sha256:short", "busybox"), None);
    }

    #[test]
    fn failures_are_told_apart() {
        for (text, kind) in [
            (
                "manifest for 127.0.0.1:5000/a:2 not found: manifest unknown: manifest unknown",
                "the registry has no such image or tag",
            ),
            (
                "Head \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials",
                "the registry refuses the login",
            ),
            (
                "Head \"http://r/v2/a/manifests/1\": unauthorized: authentication required",
                "the registry refuses the login",
            ),
            (
                "pull access denied for a, repository does not exist or may require 'docker login': \
                 denied: requested access to the resource is denied",
                "the registry has no such image, or these credentials may not read it",
            ),
            (
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "the registry cannot be reached",
            ),
            (
                "Get \"https://no.such/v2/\": dial tcp: lookup no.such: no such host",
                "the registry cannot be reached",
            ),
            (
                "Get \"https://r/v2/\": net/http: request canceled while waiting for connection \
                 (Client.Timeout exceeded while awaiting headers)",
                "the registry does not answer in time",
            ),
            (
                "Get \"https://r:5000/v2/\": http: server gave HTTP response to HTTPS client",
                "the registry has no certificate that the node's engine trusts",
            ),
        ] {
            let said = sentence(text);
            assert!(said.starts_with(kind) && said.contains(text), "{said}");
        }
        assert_eq!(sentence("something else"), "something else");
    }
}
