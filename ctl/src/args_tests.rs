//! What command lines are read as.

use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::of_line(line.split_whitespace())
}

#[test]
fn a_namespace_that_is_typed_is_told_from_one_that_is_meant_anyway() {
    for line in ["hctl get jobs -n default", "hctl -ndefault get jobs", "hctl get -n=a jobs"] {
        assert!(parse(line).unwrap().is_namespace_typed, "{line}");
    }
    assert!(!parse("hctl get jobs").unwrap().is_namespace_typed);
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn documented_lines_are_understood() {
    for line in [
        "hctl apply -f a.yaml -f dir b.yaml --wait --timeout 5m",
        "hctl apply -f - --dry-run",
        "hctl get tasks -A --job load --phase Failed -w",
        "hctl get tasks --job load --run 2 --phase failed",
        "hctl get jobs,runs -o wide -l app=web --field-selector status.phase=Running",
        "hctl -n data get run/x -o json",
        "hctl describe job load",
        "hctl delete job a b --cascade foreground --wait",
        "hctl delete -f a.yaml",
        "hctl logs -f job/load --tail 10 --timestamps",
        "hctl logs --tail -1 a",
        "hctl logs --tail=-1 a",
        "hctl logs --tail all a",
        "hctl apply -R -f dir",
        "hctl apply -Rf dir",
        "hctl apply --filename a.yaml",
        "hctl delete -R --filename dir",
        "hctl events -f",
        "hctl get jobs -oyml",
        "hctl logs load-0 --attempt 2",
        "hctl logs run/x --failed",
        "hctl exec load-0 -- ls -l /",
        "hctl exec -it task/load-0 --attempt 2 -- sh",
        "hctl top nodes --sort memory",
        "hctl top tasks -A --sort cpu -l app=web",
        "hctl events --for job/load --watch",
        "hctl events job/load -A",
        "hctl events job load",
        "hctl logs job load -f",
        "hctl exec task load-0 -- ls",
        "hctl run workflow w -p a=b",
        "hctl evict task/a task/b",
        "hctl wait workflow/data-load --for=succeeded --timeout 1m30s",
        "hctl wait job a b --for deleted",
        "hctl wait --for=condition=complete job/a",
        "hctl wait --for=delete job/a",
        "hctl run workflow/data-load -p date=2026-01-02 -p q=a=b --name x --wait",
        "hctl cancel run/x job/y",
        "hctl suspend workflow/w",
        "hctl evict load-0",
        "hctl cordon n1 n2",
        "hctl version --server http://h:1",
        "hctl cluster",
        "hctl debug bundle",
        "hctl debug bundle -f x.tar.gz --server http://h:1",
        "hctl cluster confirm --yes -o json",
        "hctl completion bash",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_lines_are_usage_errors() {
    for line in [
        "hctl frobnicate",
        "hctl events job/a --for job/b",
        "hctl logs",
        "hctl apply",
        "hctl get",
        "hctl get jobs -o toml",
        "hctl delete",
        "hctl delete job/a -f a.yaml",
        "hctl wait job/a --for=happy",
        "hctl wait job/a --timeout soon",
        "hctl exec load-0",
        "hctl exec load-0 ls",
        "hctl run w -p novalue",
        "hctl run w -p =x",
        "hctl run w -p a b=x",
        "hctl run w --name A_b",
        "hctl get jobs -n A_b",
        "hctl get jobs -n=",
        "hctl get jobs -l app=(",
        "hctl get jobs -l =a",
        "hctl get jobs --field-selector status.phase",
        "hctl get tasks --job A/b",
        "hctl get tasks --job a --run 0",
        "hctl get tasks --job a --run 1 --watch",
        "hctl get tasks --job a --run 1 -A",
        "hctl top tasks -l =a",
        "hctl logs a --attempt 0",
        "hctl logs a --tail -2",
        "hctl logs a --tail x",
        "hctl exec a --attempt 0 -- ls",
        "hctl wait job/a --timeout -1s",
        "hctl wait job/a --timeout 5",
        "hctl delete job/a --wait --timeout never",
        "hctl apply -f a --timeout 5m",
        "hctl run w --timeout 5m",
        "hctl delete job/a --timeout 5m",
        "hctl logs a --since -1s",
        "hctl logs -f a --previous",
        "hctl logs -f a --failed",
        "hctl top nodes --sort disk",
        "hctl delete job/a --cascade never",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
