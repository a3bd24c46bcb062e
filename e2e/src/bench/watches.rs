//! What it costs that many watch: a cluster's agents each watch the tasks of one node, and an event
//! concerns one of them.

use api::KindId;
use client::{AnyEvent, Client, ManyWatch};
use tokio::task::JoinSet;

use super::Figure;
use super::workload::{complete, no_op};
use crate::fleet::Fleet;

/// Watches of one node each, beside those of the fleet's agents.
const WATCHES: usize = 1_000;
/// How many watches there are while a job runs, one job after the other: in this order a fleet that
/// becomes slower, or quicker, as it goes on favours neither.
const ROUNDS: [usize; 4] = [1, WATCHES, WATCHES, 1];

/// The processor time that the server takes for the same jobs with one watch and with many.
pub(super) async fn figure(fleet: &Fleet, tasks: u32) -> Figure {
    let (mut one, mut many) = (0, 0);
    for (round, watches) in ROUNDS.into_iter().enumerate() {
        let open = open(&fleet.client(), watches).await;
        let before = fleet.cpu_millis_of("server");
        complete(fleet, &no_op(&format!("watched-{round}"), tasks)).await;
        let took = fleet.cpu_millis_of("server") - before;
        assert_eq!(open.len(), watches, "all watches are open to the end");
        *(if watches == 1 { &mut one } else { &mut many }) += took;
    }
    let what = format!("server's cpu, 2 jobs of {tasks} tasks, {WATCHES} nodes watched");
    let of = "with 1 node watched".to_owned();
    Figure::new(what, ("1.2 x one's", "1 x one's"), (many, "ms")).beside(one, of)
}

/// Opens watches, each of the tasks of one node, and reads what they send.
async fn open(client: &Client, watches: usize) -> JoinSet<()> {
    let mut open = JoinSet::new();
    for number in 1..=watches {
        let fields = format!("spec.nodeName=node-{number}");
        let mut watch = client.watch_many(&[KindId::Task], None, &fields).await.unwrap();
        while !is_initial_end(&mut watch).await {}
        open.spawn(async move { while watch.next().await.unwrap().is_some() {} });
    }
    open
}

async fn is_initial_end(watch: &mut ManyWatch) -> bool {
    matches!(watch.next().await, Ok(Some(AnyEvent::Bookmark { initial_end: true, .. })))
}
