//! Final check of acknowledged records against the tables.

use std::time::{Duration, Instant};

use forebay_test_support::WAIT_MAX;

use super::client::{Fate, Sent, check_of};
use super::server::Server;
use super::tables::Tables;
use super::world::{SINKS, balance};

/// Problems of a table, and its number of rows.
struct Counted {
    rows: u64,
    /// Acknowledged records that are missing.
    missing: u64,
    problems: Vec<String>,
}

/// Compares rows with the results of the clients: each record is there at least as often as it was
/// acknowledged and at most as often as it was sent, with its own data, and nothing else is.
fn count(tables: &Tables, table: &str, sent: &[Sent]) -> Counted {
    let mut seen: Vec<Vec<u8>> = sent.iter().map(|s| vec![0; s.fates.len()]).collect();
    let (mut rows, mut missing, mut problems) = (0, 0, Vec::new());
    tables.each(table, |id, check| {
        rows += 1;
        if check != check_of(id) {
            problems.push(format!("row {id} has data of another record: {check}"));
        }
        let numbers = id
            .split_once('-')
            .and_then(|(c, n)| Some((c.parse::<usize>().ok()?, n.parse::<usize>().ok()?)));
        let place = numbers.and_then(|(c, n)| seen.get_mut(c)?.get_mut(n));
        match place {
            Some(times) => *times += 1,
            None => problems.push(format!("row {id} was never sent")),
        }
    });
    for (client, (sent, seen)) in sent.iter().zip(&seen).enumerate() {
        for (number, (fate, times)) in sent.fates.iter().zip(seen).enumerate() {
            let Fate { sent, acknowledged } = *fate;
            missing += u64::from(*times < acknowledged);
            if !(acknowledged..=sent).contains(times) {
                problems.push(format!(
                    "record {client}-{number} was sent {sent} times and acknowledged {acknowledged} times, but is there {times} times"
                ));
            }
        }
    }
    Counted {
        rows,
        missing,
        problems,
    }
}

/// Waits until every acknowledged record is in its tables and nothing is in flight, then compares
/// tables, clients and the reconciliation of Forebay. `run` is for messages: how to repeat the run.
pub(crate) fn verify(server: &Server, tables: &Tables, sent: &[Sent], run: &str) {
    let deadline = Instant::now() + WAIT_MAX;
    for (sink, table) in SINKS {
        let (balance, counted) = loop {
            let balance = balance(server, sink);
            let is_late = Instant::now() > deadline;
            if balance["inFlight"] == 0 || is_late {
                let counted = count(tables, table, sent);
                // Acknowledged records are counted with the next report.
                let is_settled = balance["accepted"] == counted.rows && counted.missing == 0;
                if is_settled || is_late {
                    break (balance, counted);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let Counted { rows, problems, .. } = counted;
        assert!(
            problems.is_empty(),
            "{run}: {table}: {} problems, such as {:#?}\n{balance}\n{}",
            problems.len(),
            &problems[..problems.len().min(5)],
            server.log()
        );
        let sum: u64 = ["imported", "dead", "expired", "lost", "inFlight"]
            .iter()
            .map(|part| balance[part].as_u64().unwrap_or_default())
            .sum();
        let figures = (
            &balance["accepted"],
            &balance["imported"],
            &balance["holds"],
        );
        assert_eq!(
            figures,
            (&rows.into(), &rows.into(), &true.into()),
            "{run}: {sink}: {rows} rows, {balance}\n{}",
            server.log()
        );
        assert_eq!(balance["accepted"], sum, "{run}: {sink}: {balance}");
    }
}
