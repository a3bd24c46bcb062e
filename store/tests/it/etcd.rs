//! What only the store on etcd has: limits of transactions, an administrator, long lists.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base::{Rng, Tasks};
use bytes::Bytes;
use etcd_client::{Client, CompactionOptions, ConnectOptions, Permission, PermissionType};
use futures_util::future::join_all;
use store::conformance::{next_events, the_oldest_can_be_read_at_and_followed_from};
use store::{
    ConnectError, Etcd, EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser, Expectation, Group, LeaseId,
    List, Outcome, Revision, Store,
};

use crate::etcd_server::{Options, Servers, connect};

async fn one_member() -> Servers {
    Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await
}

async fn open(config: EtcdConfig) -> Result<(Etcd, Tasks), ConnectError> {
    let tasks = Tasks::new("store");
    let store = Etcd::connect(config, &Rng::from_machine(), &tasks.spawner()).await?;
    Ok((store, tasks))
}

fn put(key: &str, value: &str) -> Group {
    Group::default().put(key, Expectation::Any, value.to_owned())
}

/// The revisions at which `groups` happened.
async fn revisions(store: &Etcd, groups: Vec<Group>) -> Vec<Revision> {
    let outcomes = store.commit(groups).await;
    let mut revisions: Vec<Revision> =
        outcomes.iter().map(|outcome| outcome.done().unwrap_or_default()).collect();
    revisions.dedup();
    revisions
}

/// What it is, how many fit into a transaction, and what makes it of a group of one write.
type Shape<'a> = (&'a str, usize, &'a dyn Fn(Group) -> Group);

/// As many as planning allows, in each of the shapes, with nothing and with something refused: etcd
/// takes the transactions.
#[tokio::test]
async fn full_transactions_fit_etcds_limits() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let leader = store.commit(vec![put("/leader", "me")]).await[0].done().unwrap();
    let by_value = Expectation::Value("me".into());
    let shapes: [Shape<'_>; 4] = [
        ("a write each", 127, &|group| group),
        ("a shared guard", 126, &|group| group.guard("/leader", Expectation::Created(leader))),
        ("a shared guard by value", 125, &|group| group.guard("/leader", by_value.clone())),
        ("a guard each", 64, &|group| {
            let guard = format!("{}/guard", group.writes[0].key);
            group.guard(guard, Expectation::Absent)
        }),
    ];
    for (name, count, shape) in shapes {
        let create = |index: usize| {
            shape(Group::default().put(format!("/{name}/{index}"), Expectation::Absent, "x"))
        };
        let end = store.revision().await.unwrap();
        let outcomes = revisions(&store, (0..count).map(create).collect()).await;
        assert_eq!(outcomes, [Revision(end.0 + 1)], "{name}: all in one");
        // The second half is there already; the others still share a transaction.
        let half = count / 2;
        let shifted = (0..count).map(|index| create(index + half)).collect();
        let outcomes = store.commit(shifted).await;
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
        assert_eq!(outcomes.iter().filter(|it| refused(it)).count(), count - half, "{name}");
        assert_eq!(store.revision().await.unwrap(), Revision(end.0 + 2), "{name}: half in one");
    }
}

/// A value travels once in a transaction, whether all of its groups happen or some are refused: else
/// etcd would not take so many bytes.
#[tokio::test]
async fn a_transaction_as_large_as_planning_allows_fits_etcds_limit() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let create = |index: usize| {
        let value = Bytes::from(vec![7; 100 * 1024]);
        Group::default().put(format!("/{index}"), Expectation::Absent, value)
    };
    let end = store.revision().await.unwrap();
    let outcomes = revisions(&store, (0..10).map(create).collect()).await;
    assert_eq!(outcomes, [Revision(end.0 + 1)], "all in one");
    let outcomes = store.commit((5..15).map(create).collect()).await;
    assert_eq!(outcomes.iter().filter(|it| it.is_done()).count(), 5);
    assert_eq!(store.revision().await.unwrap(), Revision(end.0 + 2), "half in one");
}

/// Where etcd refuses a transaction for one group's sake, the others happen.
#[tokio::test]
async fn a_group_that_etcd_refuses_harms_no_other() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let gone = LeaseId(12_345);
    let groups = (0..20).map(|index| {
        let key = format!("/{index}");
        match index {
            7 => Group::default().put_under(gone, key, Expectation::Any, "x"),
            _ => put(&key, "x"),
        }
    });
    for (index, outcome) in store.commit(groups.collect()).await.iter().enumerate() {
        match index {
            7 => assert_eq!(*outcome, Outcome::Invalid("node lease 12345 is not there".to_owned())),
            _ => assert!(outcome.is_done(), "{index}: {outcome:?}"),
        }
    }
}

/// Deletes cannot carry their positions; who wrote and who watches come to the same ones.
#[tokio::test]
async fn events_have_the_positions_that_outcomes_said() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let there = ["/a", "/b", "/c", "/d"].map(|key| put(key, "x"));
    assert!(store.commit(there.to_vec()).await.iter().all(Outcome::is_done));
    let delete = |group: Group, key: &str| group.delete(key, Expectation::Any);
    let groups = vec![
        ["/none", "/a", "/none too", "/b"].into_iter().fold(Group::default(), delete),
        put("/e", "x"),
        delete(delete(put("/f", "x"), "/nor this"), "/c"),
        delete(Group::default(), "/d"),
    ];
    let mut expected = Vec::new();
    for (group, outcome) in groups.clone().iter().zip(store.commit(groups).await) {
        let Outcome::Done { revision, positions } = outcome else {
            panic!("nothing is in the way: {outcome:?}");
        };
        let places = group.writes.iter().zip(positions);
        expected.extend(places.map(|(write, position)| (revision, position, write.key.clone())));
    }
    expected.retain(|(_, _, key)| !key.starts_with("/no"));
    let mut watch = store.watch("/", expected[0].0).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let events = next_events(&mut *watch).await.unwrap();
        seen.extend(events.into_iter().map(|it| (it.revision, it.position, it.key)));
    }
    assert_eq!(seen, expected);
    assert!(seen.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn groups_as_large_as_can_be_happen() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let bytes = |count: usize| Bytes::from(vec![7; count]);
    let wide = (0..128).fold(Group::default(), |group, index| {
        group.put(format!("/wide/{index}"), Expectation::Absent, bytes(9_900))
    });
    let heavy = Group::default()
        .guard("/wide/0", Expectation::Value(bytes(9_900)))
        .put("/heavy/a", Expectation::Absent, bytes(1024 * 1024))
        .put("/heavy/b", Expectation::Absent, bytes(200 * 1024));
    let again = heavy.clone();
    let outcomes = store.commit(vec![wide, heavy, again, put("/small", "x")]).await;
    assert!(outcomes[0].is_done() && outcomes[1].is_done(), "{outcomes:?}");
    let Outcome::Refused { conflicts } = &outcomes[2] else {
        panic!("they are there");
    };
    assert_eq!(conflicts.len(), 2);
    assert_eq!(conflicts[0].found.as_ref().unwrap().value.len(), 1024 * 1024);
    assert!(outcomes[3].is_done());
}

/// Pages are bounded in bytes, and chunks of them by what a message may be.
#[tokio::test]
async fn a_long_list_of_large_and_small_values_comes_whole() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let sizes = |index: usize| if index < 24 { 1024 * 1024 } else { 100 };
    let puts = (0..2000).map(|index| {
        let value = Bytes::from(vec![7; sizes(index)]);
        Group::default().put(format!("/{index:04}"), Expectation::Any, value)
    });
    let outcomes = store.commit(puts.collect()).await;
    assert!(outcomes.iter().all(Outcome::is_done));
    let mut list = List { prefix: "/".into(), at: None, after: None, limit: 10_000 };
    let mut lengths = Vec::new();
    let mut pages = Vec::new();
    loop {
        let page = store.list(list.clone()).await.unwrap();
        lengths.extend(page.records.iter().map(|record| record.value.len()));
        pages.push(page.records.len());
        if !page.more {
            break;
        }
        list.after = page.records.last().map(|record| record.key.clone());
        list.at = Some(page.revision);
    }
    assert_eq!(lengths, (0..2000).map(sizes).collect::<Vec<_>>());
    assert_eq!(pages, [16, 1984], "a page ends after 16 MiB");
}

/// With what was before, a transaction is larger than what etcd sends in one piece.
#[tokio::test]
async fn a_revision_larger_than_a_message_comes_whole() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let wide = |byte: u8| {
        (0..120).fold(Group::default(), |group, index| {
            let value = Bytes::from(vec![byte; 10_000]);
            group.put(format!("/wide/{index}"), Expectation::Any, value)
        })
    };
    let first = store.commit(vec![wide(0)]).await[0].done().unwrap();
    let mut live = store.watch("/", Revision(first.0 + 1)).await.unwrap();
    let mut last = first;
    for byte in 1..4 {
        last = store.commit(vec![wide(byte)]).await[0].done().unwrap();
    }
    let mut replay = store.watch("/", Revision(first.0 + 1)).await.unwrap();
    for watch in [&mut live, &mut replay] {
        let mut seen = first;
        while seen < last {
            let events = next_events(&mut **watch).await.unwrap();
            assert_eq!(events.len() % 120, 0, "whole transactions");
            assert!(events[0].revision > seen, "and none in parts");
            seen = events[events.len() - 1].revision;
        }
    }
}

#[tokio::test]
async fn many_node_leases_are_renewed_in_a_call() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let grants = (0..300).map(|_| store.grant(Duration::from_secs(60)));
    let mut leases: Vec<LeaseId> = join_all(grants).await.into_iter().map(Result::unwrap).collect();
    let mut there = vec![true; 300];
    for (at, gone) in [(0, leases[0]), (1, LeaseId(0)), (150, leases[150]), (299, leases[299])] {
        store.revoke(gone).await.unwrap();
        leases[at] = gone;
        there[at] = false;
    }
    assert_eq!(store.renew(leases).await, Ok(there));
    assert_eq!(store.renew(vec![LeaseId(1), LeaseId(u64::MAX)]).await, Ok(vec![false, false]));
    assert_eq!(store.renew(vec![]).await, Ok(vec![]));
}

#[tokio::test]
async fn stores_of_one_etcd_do_not_see_each_other() {
    let servers = one_member().await;
    let (a, _of_a) = connect(&servers, "/a").await;
    let (b, _of_b) = connect(&servers, "/b").await;
    let start = a.commit(vec![put("/k", "a's")]).await[0].done().unwrap();
    assert!(b.commit(vec![put("/k", "b's")]).await[0].is_done());
    assert_eq!(a.get("/k").await.unwrap().unwrap().value, "a's");
    let list = List { prefix: "".into(), at: None, after: None, limit: 10 };
    assert_eq!(b.list(list).await.unwrap().records.len(), 1);
    let mut watch = b.watch("", start).await.unwrap();
    assert_eq!(next_events(&mut *watch).await.unwrap().len(), 1);
    assert_eq!(a.cluster_id(), b.cluster_id());
    assert_ne!(a.cluster_id(), 0);
    let own = a.commit(vec![put("/heliox/store/barrier", "x")]).await;
    assert!(matches!(own[0], Outcome::Invalid(_)), "{own:?}");
}

#[tokio::test]
async fn what_a_configuration_lacks_is_said() {
    let refusal = async |config| open(config).await.unwrap_err().to_string();
    let none = EtcdConfig::plain(vec![]);
    assert_eq!(refusal(none).await, "invalid etcd configuration: name at least one endpoint");
    let scheme = EtcdConfig::plain(vec!["localhost:2379".to_owned()]);
    assert_eq!(
        refusal(scheme).await,
        "invalid etcd configuration: invalid etcd URL \"localhost:2379\": it must begin \
         with http:// or https://; write for example http://10.0.0.1:2379"
    );
    let tls = EtcdConfig::plain(vec!["https://localhost:2379".to_owned()]);
    assert_eq!(
        refusal(tls).await,
        "invalid etcd configuration: \"https://localhost:2379\" is https: add --etcd-ca FILE"
    );
}

async fn enable_users(client: &mut Client) {
    client.user_add("root", "root's secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("heliox").await.unwrap();
    let granted = Permission::new(PermissionType::Readwrite, "/heliox/").with_prefix();
    client.role_grant_permission("heliox", granted).await.unwrap();
    client.user_add("heliox", "its secret", None).await.unwrap();
    client.user_grant_role("heliox", "heliox").await.unwrap();
    client.auth_enable().await.unwrap();
}

/// With a role that may use `/heliox/` alone; whatever makes etcd forget that it knew the user.
#[tokio::test]
async fn a_user_logs_in_and_logs_in_again() {
    let mut servers = one_member().await;
    enable_users(&mut servers.client(0).await).await;
    let config = |password: &str| {
        let user = EtcdUser { name: "heliox".to_owned(), password: password.to_owned() };
        EtcdConfig { user: Some(user), ..EtcdConfig::plain(servers.urls()) }
    };
    let refused = open(config("a wrong secret")).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused(_)), "{refused:?}");
    assert!(!format!("{refused:?} {:?}", config("a wrong secret")).contains("wrong secret"));
    let nobody = open(EtcdConfig::plain(servers.urls())).await.unwrap_err();
    assert!(matches!(nobody, ConnectError::Refused(_)), "{nobody:?}");

    let (store, _tasks) = open(config("its secret")).await.unwrap();
    let first = store.commit(vec![put("/heliox/v1/a", "one")]).await[0].done().unwrap();
    let mut watch = store.watch("/heliox/v1/", Revision(first.0 + 1)).await.unwrap();
    assert_eq!(store.commit(vec![put("/elsewhere", "x")]).await, [Outcome::Unknown]);
    // A new password, though it is the old one, logs everybody out.
    let root = ConnectOptions::new().with_user("root", "root's secret");
    let mut root = Client::connect(servers.urls(), Some(root)).await.unwrap();
    root.user_change_password("heliox", "its secret").await.unwrap();
    assert_eq!(store.get("/heliox/v1/a").await.unwrap().unwrap().value, "one");
    root.user_change_password("heliox", "its secret").await.unwrap();
    let swap = Group::default().put("/heliox/v1/b", Expectation::Absent, "x");
    assert!(store.commit(vec![swap]).await[0].is_done());
    assert_eq!(next_events(&mut *watch).await.unwrap().len(), 1);
    servers.kill(0);
    servers.run(0);
    let second = store.commit(vec![put("/heliox/v1/a", "two")]).await[0].done().unwrap();
    assert_eq!(next_events(&mut *watch).await.unwrap()[0].revision, second);
    assert_eq!(store.get("/heliox/v1/a").await.unwrap().unwrap().value, "two");
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(store.renew(vec![lease]).await, Ok(vec![true]));
    assert_eq!(store.oldest().await, Ok(Revision(1)));
}

fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl starts; if it is not installed: apt-get install openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, and a certificate for both ends.
fn make_certificates(dir: &Path) -> [PathBuf; 3] {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"),
    );
    openssl(dir, &format!("req {key} -keyout end.key -out end.csr -subj /CN=heliox"));
    std::fs::write(dir.join("end.cnf"), "subjectAltName = IP:127.0.0.1\n").unwrap();
    openssl(
        dir,
        "x509 -req -in end.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile end.cnf \
         -out end.pem",
    );
    ["end.pem", "end.key", "ca.pem"].map(|name| dir.join(name))
}

#[tokio::test]
async fn both_ends_show_their_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let files = make_certificates(dir.path());
    let [certificate_pem, key_pem, ca_pem] = files.clone().map(|file| std::fs::read(file).unwrap());
    let options = Options { no_fsync: true, tls: Some(files), ..Options::default() };
    let servers = Servers::start(1, &options).await;
    let config = |tls| EtcdConfig { tls: Some(tls), ..EtcdConfig::plain(servers.urls()) };
    let identity = EtcdIdentity { certificate_pem, key_pem };
    let known = EtcdTls { ca_pem, identity: Some(identity.clone()) };
    let (store, _tasks) = open(config(known.clone())).await.unwrap();
    let first = store.commit(vec![put("/a", "x")]).await[0].done().unwrap();
    let mut watch = store.watch("/", first).await.unwrap();
    assert_eq!(next_events(&mut *watch).await.unwrap().len(), 1);
    let shown = format!("{:?}", config(known));
    assert!(shown.contains("EtcdIdentity") && !shown.contains("45, 45"), "{shown}");
}

#[tokio::test]
async fn a_store_that_began_after_a_revision_counts_on_for_whoever_connects() {
    let servers = Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await;
    let (store, _tasks) = connect(&servers, "/a").await;
    store.begin_after(Revision(1 << 40)).await.unwrap();
    let outcome =
        store.commit(vec![Group::default().put("/x", Expectation::Any, "x")]).await.remove(0);
    let (other, _tasks) = connect(&servers, "/a").await;
    assert_eq!(other.get("/x").await.unwrap().map(|record| record.modified), outcome.done());
    assert!(outcome.done() > Some(Revision(1 << 40)));
    let (neighbour, _tasks) = connect(&servers, "/b").await;
    assert!(neighbour.revision().await.unwrap() < Revision(1000), "namespaces are apart");
}

/// A person does, as docs/operations.md says, and so does etcd itself with `--auto-compaction-*`.
#[tokio::test]
async fn what_there_is_can_be_read_after_somebody_compacted_at_the_current_revision() {
    let servers = one_member().await;
    let (store, _tasks) = connect(&servers, "").await;
    let mut client = servers.client(0).await;
    for n in 0..3 {
        assert!(store.commit(vec![put("/law/a", &n.to_string())]).await[0].is_done());
        if n == 2 {
            // What etcd may lose is a delete at the very revision that it compacts at.
            let delete = Group::default().delete("/law/a", Expectation::Any);
            assert!(store.commit(vec![delete]).await[0].is_done());
        }
        let current = i64::try_from(store.revision().await.unwrap().0).unwrap();
        client.compact(current, Some(CompactionOptions::new().with_physical())).await.unwrap();
        the_oldest_can_be_read_at_and_followed_from(&store).await;
    }
}
