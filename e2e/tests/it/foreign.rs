//! An etcd that other programs write to, too, while nothing of Heliox does: it stops nobody.

use api::Node;
use client::ListOptions;
use e2e::fleet::{self, ControlPlane, Fleet, Shape};
use etcd_client::Client;

async fn etcd(fleet: &Fleet) -> Client {
    Client::connect([fleet.etcd_url()], None).await.unwrap()
}

/// Waits until nothing of Heliox writes any more by itself, and then writes what is not Heliox's.
async fn put_the_last_key(fleet: &Fleet) {
    let mut client = etcd(fleet).await;
    let is_quiet = async || etcd(fleet).await.leases().await.unwrap().leases().is_empty();
    fleet::until_async("all leases have expired", is_quiet).await;
    client.put("foo", "x", None).await.unwrap();
}

async fn shape(control_plane: ControlPlane) -> Fleet {
    Fleet::start(Shape { control_plane, ..Shape::small("sim", 0) }).await
}

/// Everything was off for a while.
#[tokio::test]
async fn a_server_starts_although_the_last_write_was_anothers() {
    let mut fleet = shape(ControlPlane::OnEtcd { members: 1 }).await;
    fleet.kill("server");
    put_the_last_key(&fleet).await;
    fleet.run("server").await;
    fleet.client().api::<Node>("").list(&ListOptions::default()).await.unwrap();
    fleet.leader("server", 0).await;
}

/// No leader renews a lease, and nobody could be elected who cannot read.
#[tokio::test]
async fn an_apiserver_answers_and_leaders_are_elected_although_the_last_write_was_anothers() {
    let shape_of_each =
        ControlPlane::Apart { members: 1, apiservers: 1, schedulers: 1, controllers: 1 };
    let mut fleet = shape(shape_of_each).await;
    let (_, term) = fleet.leader("scheduler", 0).await;
    fleet.kill("scheduler-1");
    fleet.kill("controllers-1");
    put_the_last_key(&fleet).await;
    fleet.client().api::<Node>("").list(&ListOptions::default()).await.unwrap();
    fleet.run("scheduler-1").await;
    fleet.leader("scheduler", term).await;
}
