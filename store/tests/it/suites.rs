//! Every law, for every store.

/// The embedded store on a disk.
mod embedded {
    use store::conformance::Fixture;
    use store::{Embedded, conformance_suite};

    async fn on_disk() -> Fixture {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), base::Tasks::new("store"));
        let store = Embedded::open(dir.path(), &tasks.spawner()).unwrap();
        Fixture::new(store, (tasks, dir))
    }

    conformance_suite!([tokio::test(start_paused = true)] on_disk());
}

/// The embedded store without one.
mod embedded_in_memory {
    use store::conformance::Fixture;
    use store::{Embedded, conformance_suite};

    async fn in_memory() -> Fixture {
        let tasks = base::Tasks::new("store");
        let store = Embedded::in_memory(&tasks.spawner()).unwrap();
        Fixture::new(store, tasks)
    }

    conformance_suite!([tokio::test(start_paused = true)] in_memory());
}

/// An etcd of one member.
#[cfg(feature = "etcd")]
mod etcd {
    use store::conformance::Fixture;
    use store::conformance_suite;

    use crate::etcd_server::{Options, Servers, connect};

    async fn one_member() -> Fixture {
        let servers = Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await;
        let (store, tasks) = connect(&servers, "").await;
        Fixture::new(store, (tasks, servers))
    }

    conformance_suite!([tokio::test] one_member());
}

/// An etcd of three members, which are costly to start: each is tried by a share of the laws, in
/// turn, under a prefix for each.
#[cfg(feature = "etcd")]
mod etcd_of_three {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;
    use store::conformance::laws;

    use crate::etcd_server::{Options, Servers, connect};

    const SHARES: usize = 4;

    async fn keeps_its_share_of_the_laws(share: usize) {
        let servers = Servers::start(3, &Options { no_fsync: true, ..Options::default() }).await;
        for (name, law) in laws().into_iter().skip(share).step_by(SHARES) {
            let (store, tasks) = connect(&servers, &format!("/{name}")).await;
            let kept = AssertUnwindSafe(law(&store)).catch_unwind().await;
            assert!(kept.is_ok(), "{name} does not hold: see above");
            tasks.stop().await;
        }
    }

    #[tokio::test]
    async fn the_first_quarter_of_the_laws_holds() {
        keeps_its_share_of_the_laws(0).await;
    }

    #[tokio::test]
    async fn the_second_quarter_of_the_laws_holds() {
        keeps_its_share_of_the_laws(1).await;
    }

    #[tokio::test]
    async fn the_third_quarter_of_the_laws_holds() {
        keeps_its_share_of_the_laws(2).await;
    }

    #[tokio::test]
    async fn the_last_quarter_of_the_laws_holds() {
        keeps_its_share_of_the_laws(3).await;
    }
}

/// The simulated store.
mod simulated {
    use store::conformance::Fixture;
    use store::{Simulated, conformance_suite};

    async fn simulated() -> Fixture {
        Fixture::new(Simulated::new(), ())
    }

    conformance_suite!([tokio::test(start_paused = true)] simulated());
}
