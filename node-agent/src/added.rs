//! What every container of a node is given beside what its template says.

use api::template::HostAlias;

use crate::engine::{ContainerSpec, Mount};

/// What the node's operator adds to every container. A template has the last word: what it says itself
/// is not replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Added {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Name servers, for containers whose template names none.
    pub dns: Vec<String>,
    /// Further names in `/etc/hosts`.
    pub host_aliases: Vec<HostAlias>,
}

impl Added {
    /// Adds it to a container.
    pub(crate) fn add_to(&self, spec: &mut ContainerSpec) {
        // Of two variables of one name the later counts.
        spec.env.splice(0..0, self.env.iter().cloned());
        let own: Vec<_> = spec.mounts.iter().map(|mount| mount.path.clone()).collect();
        let others = self.mounts.iter().filter(|mount| !own.contains(&mount.path));
        spec.mounts.extend(others.cloned());
        let mode = spec.network_mode.as_deref().unwrap_or_default();
        // The engine refuses these where the network is another container's.
        if mode.starts_with("container:") {
            return;
        }
        if spec.host.dns.is_empty() {
            spec.host.dns.clone_from(&self.dns);
        }
        spec.host.host_aliases.extend(self.host_aliases.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::conformance::{Bench, Program, spec};
    use crate::engine::{Engine, MountSource};

    struct Nothing;

    impl Bench for Nothing {
        fn engine<'a>(
            &'a self,
            _: &'a str,
        ) -> futures_util::future::BoxFuture<'a, std::sync::Arc<dyn Engine>> {
            panic!("no engine is asked for")
        }

        fn set_program(&self, _: &mut ContainerSpec, _: Program<'_>) {}
    }

    fn mount(path: &str, name: &str) -> Mount {
        let source = MountSource::Volume { name: name.to_owned(), read_only: false };
        Mount { path: path.into(), source }
    }

    #[test]
    fn a_template_has_the_last_word() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let db = HostAlias { ip: "10.0.0.1".to_owned(), hostnames: vec!["db".to_owned()] };
        let added = Added {
            env: vec![pair("ZONE", "a"), pair("MODE", "slow")],
            mounts: vec![mount("/certs", "certs"), mount("/data", "other")],
            dns: vec!["10.0.0.53".to_owned()],
            host_aliases: vec![db.clone()],
        };
        let mut of_template = spec(&Nothing, "a", Program::Forever);
        of_template.env = vec![pair("MODE", "fast")];
        of_template.mounts = vec![mount("/data", "own")];
        let mut plain = of_template.clone();
        added.add_to(&mut plain);
        assert_eq!(plain.env, [pair("ZONE", "a"), pair("MODE", "slow"), pair("MODE", "fast")]);
        assert_eq!(plain.mounts, [mount("/data", "own"), mount("/certs", "certs")]);
        assert_eq!((plain.host.dns, plain.host.host_aliases), (added.dns.clone(), vec![db]));
        let mut with_own = of_template.clone();
        with_own.host.dns = vec!["::1".to_owned()];
        added.add_to(&mut with_own);
        assert_eq!(with_own.host.dns, ["::1"]);
        let mut shares = of_template;
        shares.network_mode = Some("container:x".to_owned());
        added.add_to(&mut shares);
        assert!(shares.host.dns.is_empty() && shares.host.host_aliases.is_empty());
    }
}
