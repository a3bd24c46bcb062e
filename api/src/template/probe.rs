//! Probes: how Heliox finds out whether a container has started, can serve, and still works.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{PROBE_SECONDS_MAX, PROBE_THRESHOLD_MAX, Template};

/// Seconds between two probes if the probe does not say.
pub const PERIOD_SECONDS: u32 = 10;
/// How long a probe may take, in seconds, if it does not say.
pub const TIMEOUT_SECONDS: u32 = 1;
/// How many probes in a row must succeed if the probe does not say.
pub const SUCCESS_THRESHOLD: u32 = 1;
/// How many probes in a row must fail if the probe does not say.
pub const FAILURE_THRESHOLD: u32 = 3;
/// The path of an HTTP probe that does not say.
pub const HTTP_PATH: &str = "/";

/// A check of a container that is repeated while it runs. Exactly one of `httpGet`, `tcpSocket` and
/// `exec` is required.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Send an HTTP GET request. A status from 200 to 399 is a success; a redirect is not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// Open a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// Run a command in the container. Exit code 0 is a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCommand>,
    /// Seconds between the start of the container and the first probe, from 0 to 86,400. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = PROBE_SECONDS_MAX))]
    pub initial_delay_seconds: Option<u32>,
    /// Seconds from one probe to the next, from 1 to 86,400. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PROBE_SECONDS_MAX))]
    pub period_seconds: Option<u32>,
    /// Seconds that a probe may take, from 1 to 86,400; one that takes longer has failed. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PROBE_SECONDS_MAX))]
    pub timeout_seconds: Option<u32>,
    /// Number of probes in a row that must succeed after a failure, from 1 to 100,000. Default 1;
    /// must be 1 for startup and liveness probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PROBE_THRESHOLD_MAX))]
    pub success_threshold: Option<u32>,
    /// Number of probes in a row that must fail before the probe counts as failed, from 1 to
    /// 100,000. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PROBE_THRESHOLD_MAX))]
    pub failure_threshold: Option<u32>,
}

/// An HTTP GET request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Path and query of the request. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Port: a number of the container, or the name of one of `ports`. Without an address of the
    /// container that the agent reaches, a named port is probed at the node's port.
    pub port: PortRef,
    /// Host name or IP address to connect to. Default: the container's own address; the node itself
    /// with `networkMode: host` and the process runtime. To set the `Host` header alone, use
    /// `httpHeaders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Scheme. Default HTTP.
    #[serde(default, skip_serializing_if = "HttpScheme::is_http")]
    pub scheme: HttpScheme,
    /// Headers of the request, at most 100. A name may be repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
}

/// The scheme of an HTTP probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum HttpScheme {
    /// Plain HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
}

impl HttpScheme {
    /// Whether this is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_http(&self) -> bool {
        *self == HttpScheme::Http
    }
}

/// A header of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Name of the header.
    pub name: String,
    /// Value of the header.
    #[serde(default)]
    pub value: String,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    /// Port: a number of the container, or the name of one of `ports`. Without an address of the
    /// container that the agent reaches, a named port is probed at the node's port.
    pub port: PortRef,
    /// Host name or IP address to connect to. Default: the container's own address; the node itself
    /// with `networkMode: host` and the process runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A command that runs in the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecCommand {
    /// Program and arguments, executed without a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// A port of a template: its number in the container, or its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// A number.
    Number(u16),
    /// The name of one of the template's ports.
    Name(String),
}

impl Default for PortRef {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Number(number) => number.fmt(f),
            PortRef::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for PortRef {
    type Err = std::convert::Infallible;

    /// A text that is a number is that number: the value of a parameter is always a text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| PortRef::Name(text.to_owned()), PortRef::Number))
    }
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PortRef::Number(number) => serializer.serialize_u16(*number),
            PortRef::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PortRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number, or the name of a port")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRef, E> {
                u16::try_from(number).map(PortRef::Number).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRef, E> {
                u16::try_from(number).map(PortRef::Number).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRef, E> {
                text.parse().map_err(|never: std::convert::Infallible| match never {})
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PortRef {
    fn schema_name() -> Cow<'static, str> {
        "PortRef".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["integer", "string"], "format": "port-or-name", "minimum": 1
        })
    }
}

/// Which of a container's probes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Decides when the container has started. The other probes begin after that.
    Startup,
    /// Decides whether the task is ready.
    Readiness,
    /// Decides whether the container still works.
    Liveness,
}

impl ProbeKind {
    /// All of them, the one that gates the others first.
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];

    /// As people read it: `startup`.
    pub fn word(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
        }
    }

    /// Its field in a template: `startupProbe`.
    pub fn field(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startupProbe",
            ProbeKind::Readiness => "readinessProbe",
            ProbeKind::Liveness => "livenessProbe",
        }
    }
}

impl Template {
    /// Its probes, with what each of them decides.
    pub fn probes(&self) -> impl Iterator<Item = (ProbeKind, &Probe)> {
        let of = |kind: ProbeKind| Some((kind, self.probe(kind)?));
        ProbeKind::ALL.into_iter().filter_map(of)
    }

    /// One of its probes, if it has that.
    pub fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup_probe.as_deref(),
            ProbeKind::Readiness => self.readiness_probe.as_deref(),
            ProbeKind::Liveness => self.liveness_probe.as_deref(),
        }
    }

    pub(crate) fn probes_mut(&mut self) -> impl Iterator<Item = (ProbeKind, &mut Probe)> {
        let all = [
            (ProbeKind::Startup, self.startup_probe.as_deref_mut()),
            (ProbeKind::Readiness, self.readiness_probe.as_deref_mut()),
            (ProbeKind::Liveness, self.liveness_probe.as_deref_mut()),
        ];
        all.into_iter().filter_map(|(kind, probe)| Some((kind, probe?)))
    }
}

impl Probe {
    /// From the start of the container to the first probe.
    pub fn initial_delay(&self) -> StdDuration {
        StdDuration::from_secs(self.initial_delay_seconds.unwrap_or(0).into())
    }

    /// From one probe to the next.
    pub fn period(&self) -> StdDuration {
        StdDuration::from_secs(self.period_seconds.unwrap_or(PERIOD_SECONDS).max(1).into())
    }

    /// How long a probe may take.
    pub fn timeout(&self) -> StdDuration {
        StdDuration::from_secs(self.timeout_seconds.unwrap_or(TIMEOUT_SECONDS).max(1).into())
    }

    /// How many in a row must succeed.
    pub fn success_threshold(&self) -> u32 {
        self.success_threshold.unwrap_or(SUCCESS_THRESHOLD).max(1)
    }

    /// How many in a row must fail.
    pub fn failure_threshold(&self) -> u32 {
        self.failure_threshold.unwrap_or(FAILURE_THRESHOLD).max(1)
    }
}
