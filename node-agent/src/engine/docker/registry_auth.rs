//! The host's credentials for registries, as `docker login` writes them to `config.json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// The registry of images without one in their names, as the file names it.
const DOCKER_HUB: &str = "index.docker.io";
/// Other names of the same.
const DOCKER_HUBS: [&str; 2] = ["docker.io", "registry-1.docker.io"];

/// With what a registry is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// With a name and a password.
    With {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// Without any; with a note of why, if there might be some.
    Without(Option<String>),
}

/// Without the password, which must not get into a log.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::With { username, .. } => write!(f, "With({username})"),
            Self::Without(note) => write!(f, "Without({note:?})"),
        }
    }
}

/// The credentials of a file for the registry of an image. The error is a fragment.
pub(super) fn login(text: &str, image: &str) -> Result<Login, String> {
    let config: Value = serde_json::from_str(text).map_err(|_| "it is not JSON".to_owned())?;
    let registry = registry_of(image);
    let of_registry = |map: &str| {
        let entries = config.get(map)?.as_object()?.iter();
        entries.filter(|(key, _)| host_of(key) == registry).map(|(_, value)| value.clone()).next()
    };
    let entry = of_registry("auths").unwrap_or_default();
    let word = |field: &str| entry.get(field).and_then(Value::as_str).filter(|it| !it.is_empty());
    if let Some(auth) = word("auth") {
        let wrong = || format!("auths of {registry}: auth is not the base64 of NAME:PASSWORD");
        let decoded = BASE64_STANDARD.decode(auth).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (username, password) = decoded.split_once(':').ok_or_else(wrong)?;
        // Docker pads the password with zeros.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Login::With { username: username.to_owned(), password });
    }
    if let (Some(username), Some(password)) = (word("username"), word("password")) {
        return Ok(Login::With { username: username.to_owned(), password: password.to_owned() });
    }
    let helper = of_registry("credHelpers").or_else(|| config.get("credsStore").cloned());
    Ok(Login::Without(helper.as_ref().and_then(Value::as_str).map(|helper| {
        format!(
            "the credential helper {helper:?} of the host's Docker config is not asked: write auths"
        )
    })))
}

/// The registry that an image is fetched from.
fn registry_of(image: &str) -> &str {
    let first = image.split_once('/').map_or("", |(first, _)| first);
    let is_host = first.contains(['.', ':']) || first == "localhost";
    let host = if is_host { first } else { DOCKER_HUB };
    if DOCKER_HUBS.contains(&host) { DOCKER_HUB } else { host }
}

/// The registry that a key of the file means: `https://index.docker.io/v1/` or `registry:5000`.
fn host_of(key: &str) -> &str {
    let without = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = without.split('/').next().unwrap_or(without);
    if DOCKER_HUBS.contains(&host) { DOCKER_HUB } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_fetched_with_the_credentials_of_its_registry() {
        // "user:pass:word", and "hub:x" with the zeros that Docker adds.
        let config = r#"{
            "auths": {
                "registry:5000": { "auth": "dXNlcjpwYXNzOndvcmQ=" },
                "https://index.docker.io/v1/": { "auth": "aHViOngAAA==" },
                "plain.example": { "username": "a", "password": "b" },
                "empty.example": {}
            },
            "credHelpers": { "cloud.example": "gcloud" }
        }"#;
        let with = |username: &str, password: &str| {
            Ok(Login::With { username: username.to_owned(), password: password.to_owned() })
        };
        for (image, expected) in [
            ("registry:5000/team/app:1", with("user", "pass:word")),
            ("busybox", with("hub", "x")),
            ("team/app", with("hub", "x")),
            ("docker.io/library/busybox", with("hub", "x")),
            ("plain.example/a@sha256:00", with("a", "b")),
            ("empty.example/a", Ok(Login::Without(None))),
            ("registry:5001/team/app", Ok(Login::Without(None))),
            ("localhost/a", Ok(Login::Without(None))),
        ] {
            assert_eq!(login(config, image), expected, "{image}");
        }
        let Ok(Login::Without(Some(note))) = login(config, "cloud.example/a") else { panic!() };
        assert!(note.contains("\"gcloud\""), "{note}");
    }

    #[test]
    fn a_file_that_is_damaged_says_so_and_shows_no_password() {
        assert_eq!(login("{", "a"), Err("it is not JSON".to_owned()));
        let wrong = r#"{ "auths": { "r:1": { "auth": "!secret" } } }"#;
        let why = login(wrong, "r:1/a").unwrap_err();
        assert_eq!(why, "auths of r:1: auth is not the base64 of NAME:PASSWORD");
        let login = Login::With { username: "u".to_owned(), password: "secret".to_owned() };
        assert_eq!(format!("{login:?}"), "With(u)");
    }
}
