//! The program `heliox-shim`, from the outside.

use std::process::{Command, Output};

fn heliox_shim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heliox-shim")).args(args).output().expect("it can be started")
}

#[test]
fn it_says_from_which_sources_it_was_built() {
    let said = heliox_shim(&[shim::ASKS_FOR_BUILD]);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{}\n", shim::BUILD));
}

#[test]
fn without_a_task_it_says_that_nothing_was_begun() {
    assert_eq!(heliox_shim(&[]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let said = heliox_shim(&[dir.path().to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    let answer = String::from_utf8(said.stdout).unwrap();
    assert_eq!(answer, "{\"Failed\":\"this directory holds no task\"}\n");
}
