//! A small run of the benchmarks, so that they are not found broken on the day they are needed.

use e2e::bench::{self, Sizes};

#[tokio::test]
async fn every_figure_is_measured() {
    let sizes = Sizes { placements: (20, 300), nodes: 2, tasks: 50, large: 100, chain: 3 };
    let mut told = Vec::new();
    let report = bench::run(&sizes, |figure| told.push(figure.to_string())).await;
    let missing: Vec<&str> = report
        .figures
        .iter()
        .filter(|figure| figure.number == 0 && figure.unit != "ms" && figure.unit != "s")
        .map(|figure| figure.what.as_str())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(report.to_json()["figures"].as_array().unwrap().len(), report.figures.len());
    assert_eq!(told.len(), report.figures.len());
}
