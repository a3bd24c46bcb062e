//! What a process cannot have of its host, or be kept from.
//!
//! What a program would miss, or what somebody relies on for safety, is refused. The host name and
//! `hostPID` are not: a process has the host's own.

use std::path::Path;

use api::template::Device;

use crate::engine::{EngineError, HostSettings, Reason};

/// Refuses what would be missing or would not protect.
pub(super) fn check(host: &HostSettings) -> Result<(), EngineError> {
    let security = &host.security;
    let missing = [
        ("dns", !host.dns.is_empty(), "a process asks the node's name servers"),
        ("hostAliases", !host.host_aliases.is_empty(), "a process reads the node's /etc/hosts"),
        ("runtime", host.runtime.is_some(), "a process is started by none"),
        ("sysctls", !host.sysctls.is_empty(), "a process has none of its own"),
        ("ulimits", !host.ulimits.is_empty(), "a process has the agent's"),
        ("securityContext.runAsUser", security.run_as_user.is_some(), RIGHTS),
        ("securityContext.readOnlyRootFilesystem", security.read_only_root_filesystem, RIGHTS),
        ("securityContext.privileged", security.privileged, RIGHTS),
        ("securityContext.capabilities", !security.capabilities.is_empty(), RIGHTS),
        ("securityContext.securityOpt", !security.security_opt.is_empty(), RIGHTS),
    ];
    if let Some((field, _, why)) = missing.into_iter().find(|(_, is_set, _)| *is_set) {
        return refused(format!("{field}: not available with the process runtime: {why}"));
    }
    host.devices.iter().try_for_each(|text| device(text))
}

const RIGHTS: &str = "a process has the agent's rights";

fn device(text: &str) -> Result<(), EngineError> {
    match Device::parse(text) {
        Some(Device { host, container, .. }) if host != container => refused(format!(
            "device {text}: the process runtime has it at {host} only; write no other path"
        )),
        Some(Device { host, .. }) if !Path::new(host).exists() => {
            refused(format!("device {host}: does not exist on this node"))
        }
        Some(_) | None => Ok(()),
    }
}

fn refused(message: String) -> Result<(), EngineError> {
    Err(EngineError::refused(Reason::Invalid, message))
}

#[cfg(test)]
mod tests {
    use api::template::Template;
    use serde_json::{Value, json};

    use super::*;

    fn settings(template: Value) -> HostSettings {
        let mut template = template;
        template["image"] = json!("x");
        let template: Template = serde_json::from_value(template).unwrap();
        crate::resolve::host_settings(template, &[])
    }

    #[test]
    fn what_would_mislead_is_refused_by_name() {
        for (template, part) in [
            (json!({ "dns": ["::1"] }), "dns: "),
            (json!({ "hostAliases": [{ "ip": "::1", "hostnames": ["a"] }] }), "hostAliases: "),
            (json!({ "runtime": "runsc" }), "runtime: "),
            (json!({ "sysctls": [{ "name": "net.a", "value": "1" }] }), "sysctls: "),
            (json!({ "ulimits": [{ "name": "core", "soft": 1 }] }), "ulimits: "),
            (json!({ "securityContext": { "runAsUser": 0 } }), "securityContext.runAsUser: "),
            (
                json!({ "securityContext": { "readOnlyRootFilesystem": true } }),
                "securityContext.readOnlyRootFilesystem: ",
            ),
            (json!({ "securityContext": { "privileged": true } }), "securityContext.privileged: "),
            (
                json!({ "securityContext": { "capabilities": { "drop": ["ALL"] } } }),
                "securityContext.capabilities: ",
            ),
            (
                json!({ "securityContext": { "securityOpt": ["no-new-privileges"] } }),
                "securityContext.securityOpt: ",
            ),
            (json!({ "devices": ["/dev/null:/dev/zero"] }), "device /dev/null:/dev/zero: "),
            (json!({ "devices": ["/dev/no-such"] }), "device /dev/no-such: does not exist"),
        ] {
            match check(&settings(template)) {
                Err(EngineError::Refused { reason: Reason::Invalid, message }) => {
                    assert!(message.starts_with(part), "{message}");
                }
                other => panic!("{part}: {other:?}"),
            }
        }
        let harmless = json!({ "hostname": "a", "hostPID": true, "devices": ["/dev/null:r"] });
        assert_eq!(check(&settings(harmless)), Ok(()));
    }
}
