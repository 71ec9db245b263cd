//! The same load with one sink and with many.

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{Case, Measured, body, body_columns, print_header};
use crate::load;

const CONNECTIONS: usize = 256;

pub async fn run(common: &Common, sinks: &[usize]) -> anyhow::Result<()> {
    print_header();
    let (one, base) = case(common, 1, None).await?;
    for &count in sinks {
        let (_, memory) = case(common, count, Some(one)).await?;
        println!(
            "    {count} idle sinks use {:.0} MB more than one: {:.1} KB per sink",
            memory - base,
            (memory - base) * 1024.0 / count as f64
        );
    }
    Ok(())
}

/// Also returns the memory before the load.
async fn case(
    common: &Common,
    count: usize,
    beside: Option<Measured>,
) -> anyhow::Result<(Measured, f64)> {
    let forebay = Forebay::start(common, count.div_ceil(100), &[]).await?;
    let begun = std::time::Instant::now();
    let paths = forebay
        .define_many(count, &body_columns(), &common.settings()?)
        .await?;
    println!(
        "    {count} created in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let memory = forebay.server.memory_mb()?;
    let requests = paths
        .iter()
        .map(|p| load::request(p, "application/json", &body(0)));
    let case = Case {
        name: &format!("{count} sinks"),
        server: &forebay.server,
        address: forebay.source,
        requests: requests.collect(),
        connections: CONNECTIONS,
        records: 1,
    };
    Ok((case.measure(common, beside).await?, memory))
}
