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

/// The simulated store.
mod simulated {
    use store::conformance::Fixture;
    use store::{Simulated, conformance_suite};

    async fn simulated() -> Fixture {
        Fixture::new(Simulated::new(), ())
    }

    conformance_suite!([tokio::test(start_paused = true)] simulated());
}
