//! Cost of fsync before the response: the same load with and without it.

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{Case, Measured, body, body_columns, print_header};
use crate::load;

const CONNECTIONS: usize = 256;

pub async fn run(common: &Common) -> anyhow::Result<()> {
    print_header();
    let none = case(common, "log.sync=none", "none", None).await?;
    case(common, "log.sync=disk", "disk", Some(none)).await?;
    Ok(())
}

async fn case(
    common: &Common,
    name: &str,
    sync: &str,
    beside: Option<Measured>,
) -> anyhow::Result<Measured> {
    let set = format!("log.sync={sync}");
    let forebay = Forebay::start(common, 1, &["--set", &set]).await?;
    let settings = common.settings()?;
    let path = forebay.define(1, 0, &body_columns(), &settings).await?;
    let case = Case {
        name,
        server: &forebay.server,
        address: forebay.source,
        requests: vec![load::request(&path, "application/json", &body(0))],
        connections: CONNECTIONS,
        records: 1,
    };
    case.measure(common, beside).await
}
