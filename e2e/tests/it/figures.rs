//! A small run of the benchmarks, so that they are not found broken on the day they are needed.

use e2e::bench::{self, Sizes};

#[tokio::test]
async fn every_figure_is_measured() {
    let idle = std::time::Duration::from_secs(1);
    let sizes = Sizes {
        placements: (20, 300),
        nodes: 2,
        tasks: 50,
        large: 100,
        processes: 10,
        containers: 8,
        replicas: 1,
        rollouts: vec![3],
        chain: 3,
        trace_steps: true,
        restart: 100,
        finished: 20,
        idle,
    };
    let mut told = Vec::new();
    let report = bench::run(&sizes, |figure| told.push(figure.to_string())).await;
    // Processor time is told in hundredths of a second, of which a small run may take none.
    let may_be_none = |unit: &str, what: &str| {
        ["ms", "s", "us/s"].contains(&unit)
            || what.contains("deleting a job")
            || what.contains("a node of it")
    };
    let missing: Vec<&str> = report
        .figures
        .iter()
        // Where HyperQueue cannot be installed, or Docker does not run, the row says so.
        .filter(|figure| figure.missing.is_none())
        .filter(|figure| figure.number == 0 && !may_be_none(figure.unit, &figure.what))
        .map(|figure| figure.what.as_str())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(report.to_json()["figures"].as_array().unwrap().len(), report.figures.len());
    assert_eq!(told.len(), report.figures.len());
    // A title, two steps, and the median of each part.
    assert_eq!(report.steps.len(), 4, "{:?}", report.steps);
}
