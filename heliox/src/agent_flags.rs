//! The flags of `heliox agent`, checked before anything is started. All errors are reported at
//! once, each with its value, the rule and what to do.
//!
//! The Node object that follows from the flags is checked by the apiserver's own rules: an agent
//! whose node is always refused would wait for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Result, bail};
use api::Node;
use api::amounts::{self, Amounts, CPU, MEMORY, Quantity, amount};
use api::metadata::label_key_problem;
use api::node::NodeSpec;
use api::resource::Resource as _;
use api::taint::Taint;

use crate::args::{AgentArgs, Runtime};
use crate::engine_flags::{self, EngineOptions};

/// Flags that describe a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFlags {
    /// The node's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Resources that tasks may use, where they differ from what the engine reports.
    pub capacity: Amounts,
    /// Its container engine.
    pub engine: EngineOptions,
}

/// Checks all flags. `host_name` is the default of the node's name.
pub fn checked(args: &AgentArgs, host_name: impl FnOnce() -> Result<String>) -> Result<AgentFlags> {
    let mut problems = Vec::new();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    if let Some(problem) = api::names::problem(&name) {
        let of = if args.name.is_some() { "--name" } else { "the host's name" };
        problems.push(format!("{of} {name:?}: {problem}; choose a name with --name"));
    }
    match &args.server {
        Some(server) => {
            if let Err(error) = client::Servers::parse(server, 0) {
                problems.push(format!("--server: {error}"));
            }
        }
        None => problems
            .push("--server: required: the URL of the apiserver; or set HELIOX_SERVER".to_owned()),
    }
    let labels = labels(&args.labels, &mut problems);
    let taints = taints(&args.taints, &mut problems);
    let capacity = capacity(&args.capacity, &mut problems);
    if let Some(problem) = address_problem(args.address) {
        problems.push(format!("--address {}: {problem}", args.address));
    }
    let mut engine = engine_flags::checked(&args.engine, &mut problems);
    if matches!(args.runtime, Runtime::Docker | Runtime::Auto) {
        engine.take_socket(args.engine.docker_host.as_deref(), &mut problems);
    }
    match problems.as_slice() {
        [] => Ok(AgentFlags { name, labels, taints, capacity, engine }),
        [problem] => bail!("{problem}"),
        problems => bail!("{} flags are wrong:\n  {}", problems.len(), problems.join("\n  ")),
    }
}

/// Parses the `KEY=VALUE` pairs of a flag. Each key may be given once.
fn pairs(
    flag: &str,
    texts: &[String],
    example: &str,
    problems: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            problems.push(format!("{flag} {text:?}: must be KEY=VALUE, for example {example}"));
            continue;
        };
        if let Some(before) = pairs.insert(key.to_owned(), value.to_owned()) {
            let twice = format!("{flag}: {key:?} is given twice, as {before:?} and as {value:?}");
            problems.push(format!("{twice}; give it once"));
        }
    }
    pairs
}

fn labels(texts: &[String], problems: &mut Vec<String>) -> BTreeMap<String, String> {
    let labels = pairs("--label", texts, "--label zone=a", problems);
    for (key, value) in &labels {
        let one = BTreeMap::from([(key.clone(), value.clone())]);
        let node = Node::new("", "any-name", NodeSpec::default()).with_labels(one);
        for violation in node.validate() {
            problems.push(format!("--label \"{key}={value}\": {}", violation.message));
        }
    }
    labels
}

fn taints(texts: &[String], problems: &mut Vec<String>) -> Vec<Taint> {
    let mut taints = Vec::new();
    for text in texts {
        match text.parse::<Taint>() {
            Ok(taint) => taints.push(taint),
            Err(why) => problems.push(format!("--taint {text:?}: {why}")),
        }
    }
    let spec = NodeSpec { taints, ..NodeSpec::default() };
    let node = Node::new("", "any-name", spec);
    let violations = node.validate();
    problems.extend(violations.into_iter().map(|it| format!("--taint: {}", it.message)));
    node.spec.taints
}

fn capacity(texts: &[String], problems: &mut Vec<String>) -> Amounts {
    let mut amounts = Amounts::new();
    for (resource, text) in pairs("--capacity", texts, "--capacity cpu=4,memory=8Gi", problems) {
        match text.parse::<Quantity>() {
            Ok(quantity) => {
                if let Some(problem) = capacity_problem(&resource, &quantity) {
                    problems.push(format!("--capacity \"{resource}={text}\": {problem}"));
                }
                amounts.insert(resource.clone(), amount(&resource, &quantity));
            }
            Err(error) => problems.push(format!("--capacity {resource}: {error}")),
        }
    }
    amounts
}

fn capacity_problem(resource: &str, quantity: &Quantity) -> Option<String> {
    if let Some(problem) = label_key_problem(resource) {
        return Some(problem);
    }
    if let Some(meant) = amounts::meant(resource) {
        return Some(format!("unknown resource {resource:?}; did you mean {meant}?"));
    }
    if let Some((why, hint)) = amounts::problem(resource, quantity) {
        return Some(hint.map_or(why.clone(), |hint| format!("{why}; {hint}")));
    }
    let is_needed = resource == CPU || resource == MEMORY;
    (is_needed && quantity.milli() == 0).then(|| {
        "no task could run here; leave the flag out to offer everything the host has".to_owned()
    })
}

fn address_problem(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some(
            "other hosts cannot reach this address; name one at which they reach this host",
        );
    }
    address
        .is_multicast()
        .then_some("this is a multicast or broadcast address; name an address of this host")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn check(line: &[&str]) -> Result<AgentFlags> {
        let words = ["heliox", "agent"].iter().chain(line);
        let Command::Agent(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it is an agent")
        };
        checked(&args, || Ok("host".to_owned()))
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_the_value_the_rule_and_a_hint() {
        let line = [
            "--server=https://a",
            "--name=A_b",
            "--label=Zone=A b",
            "--label=x",
            "--label=y=1",
            "--label=y=2",
            "--taint=a=b",
            "--taint=b:NoSchedule",
            "--taint=b=2:NoSchedule",
            "--capacity=cpu=many,memory=0,memroy=8Gi,cpus=2,a b=1,gpu=1.5,disk=1e30",
            "--address=0.0.0.0",
        ];
        let said = check(&line).unwrap_err().to_string();
        expect_test::expect![[r#"
            15 flags are wrong:
              --name "A_b": 'A' is not allowed; use a-z, 0-9, '-' and '.'; choose a name with --name
              --server: invalid server URL "https://a": https is not supported yet; write for example http://127.0.0.1:7070
              --label "x": must be KEY=VALUE, for example --label zone=a
              --label: "y" is given twice, as "1" and as "2"; give it once
              --label "Zone=A b": ' ' is not allowed; use letters, digits, '-', '_' and '.'
              --taint "a=b": must be KEY=VALUE:EFFECT, for example dedicated=gpu:NoSchedule
              --taint: there is another taint b with effect NoSchedule
              --capacity "a b=1": the key is not allowed: ' ' is not allowed; use letters, digits, '-', '_' and '.'
              --capacity cpu: "many" is not a quantity; write for example 2, 500m, 64Mi or 1.5Gi
              --capacity "cpus=2": unknown resource "cpus"; did you mean cpu?
              --capacity disk: "1e30" is not a quantity; write for example 2, 500m, 64Mi or 1.5Gi
              --capacity "gpu=1.5": 1.5 is not a whole number
              --capacity "memory=0": no task could run here; leave the flag out to offer everything the host has
              --capacity "memroy=8Gi": unknown resource "memroy"; did you mean memory?
              --address 0.0.0.0: other hosts cannot reach this address; name one at which they reach this host
        "#]]
        .assert_eq(&(said + "\n"));
    }

    #[test]
    fn a_server_with_port_0_is_nowhere() {
        for (server, part) in [
            ("http://a:0", "port 0"),
            ("https://a", "https is not supported yet"),
            ("ftp://a", "must begin with http://"),
            ("a:7070", "must begin with http://"),
            ("http://a:99999", "a port up to 65535"),
            ("", "is not a URL"),
        ] {
            let said = check(&["--server", server]).unwrap_err().to_string();
            assert!(said.contains(part), "{server}: {said}");
            assert!(said.contains("write for example http://127.0.0.1:7070"), "{said}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        let line = [
            "--server=http://a:1",
            "--label=zone=a",
            "--taint=gpu:NoExecute",
            "--capacity=cpu=2,gpu=1,example.com/fpga=2",
        ];
        let flags = check(&line).unwrap();
        assert_eq!(flags.name, "host");
        assert_eq!(flags.labels["zone"], "a");
        assert_eq!(flags.taints[0].to_string(), "gpu:NoExecute");
        assert_eq!((flags.capacity["cpu"], flags.capacity["gpu"]), (2_000, 1));
    }

    #[test]
    fn an_address_at_which_nobody_reaches_a_task_is_refused() {
        for (address, why) in [
            ("0.0.0.0", "other hosts cannot reach this address"),
            ("::", "other hosts cannot reach this address"),
            ("224.0.0.1", "a multicast or broadcast address"),
            ("ff02::1", "a multicast or broadcast address"),
        ] {
            let refused = check(&["--server=http://a:1", "--address", address]).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        for address in ["127.0.0.1", "10.0.0.7", "::1"] {
            check(&["--server=http://a:1", "--address", address]).unwrap();
        }
    }

    #[test]
    fn the_hosts_own_name_may_be_wrong_too() {
        let Command::Agent(args) =
            Cli::try_parse_from(["heliox", "agent", "--server=http://a"]).unwrap().command
        else {
            panic!("it is an agent")
        };
        let said = checked(&args, || Ok("my_host".to_owned())).unwrap_err().to_string();
        assert!(said.starts_with("the host's name \"my_host\": "), "{said}");
        assert!(said.ends_with("choose a name with --name"), "{said}");
    }
}
