//! Which host ports attempts get.

use super::*;

#[test]
fn a_port_that_something_else_holds_is_given_back_for_another() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    assert!(world.ledger.shun_ports(&id(0), at(1_000)));
    world.check(expect![[r#"
        t-0: starting [20001]
        start t-0
        wake at 1000
    "#]]);
    world.check(expect![[r#"
        start t-0
        wake at 1000
    "#]]);
    world.bind(1);
    world.busy.insert(id(0));
    world.check(expect![[r#"
        t-1: starting [20002]
        start t-1
        wake at 1000
    "#]]);
    world.ledger.remove(&id(1));
    let tries = (0..9).filter(|_| world.ledger.shun_ports(&id(0), at(1_000))).count();
    assert_eq!(tries, 4, "after the first");
    world.ledger.forgive(at(1_000));
    world.check(expect![[r#"
        t-1: starting [20000]
        start t-1
        wake at 1000
    "#]]);
}

/// The port may have been the reason why the previous attempt failed.
#[test]
fn a_next_attempt_gets_another_port() {
    let mut world = world();
    let spec = TaskSpec { template: "j-x".to_owned(), attempt: 3, run: 1, ..TaskSpec::default() };
    let mut task = Task::new("default", "t-0", spec);
    task.metadata.uid = Some("0".to_owned());
    let bind = TaskChange::Bind { node: "n1".to_owned() };
    let Ok(transition::Applied::Changed(task)) = transition::apply(&task, 3, &bind, at(0)) else {
        panic!("it is bound")
    };
    world.tasks.insert(Identity::new("default", "t-0", "0", 3).unwrap(), *task);
    world.check(expect![[r#"
        t-0: starting [20002]
        start t-0
        wake at 1000
    "#]]);
}
