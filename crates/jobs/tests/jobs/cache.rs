//! The cache of row hashes: unchanged rows are not written, and no row is lost by that.

use forebay_jobs::JobOutcome;

use crate::files::{into_table, lines};
use crate::world::World;

fn cached(extra: &str) -> String {
    format!("{}  cache: {extra}\n", into_table("'*.jsonl'", ""))
}

#[tokio::test]
async fn an_unchanged_row_is_not_written_again() {
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 2000)).unwrap();
    let definition = world.define(&cached("{ type: embedded }"));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.written, summary.unchanged),
        (JobOutcome::Complete, 2000, 0)
    );
    let (_, summary) = world.run(&definition).await;
    assert_eq!((summary.written, summary.unchanged), (0, 2000));
    let changed = lines(0, 2000).replace("product 7\"", "changed\"");
    std::fs::write(world.path("a.jsonl"), changed).unwrap();
    let (_, summary) = world.run(&definition).await;
    assert_eq!((summary.written, summary.unchanged), (1, 1999));
    let sql = "SELECT count(*) FROM products WHERE name = 'changed' AND id = 7";
    assert_eq!(world.number(sql), 1);
    // Back to the first content: the hashes from before are not valid any more.
    std::fs::write(world.path("a.jsonl"), lines(0, 2000)).unwrap();
    let (_, summary) = world.run(&definition).await;
    assert_eq!((summary.written, world.number(sql)), (1, 0));
}

#[tokio::test]
async fn the_same_values_for_other_columns_are_written() {
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 300)).unwrap();
    let yaml = cached("{ type: embedded }");
    assert_eq!(world.run(&world.define(&yaml)).await.1.written, 300);
    let add = "ALTER TABLE products ADD COLUMN title TEXT";
    rusqlite::Connection::open(world.path("rows.db"))
        .unwrap()
        .execute_batch(add)
        .unwrap();
    let renamed = yaml.replace("{ name: name }", "{ name: title, path: name }");
    assert_ne!(renamed, yaml);
    let titles = "SELECT count(*) FROM products WHERE title = name";
    let (_, summary) = world.run(&world.define(&renamed)).await;
    assert_eq!((summary.written, world.number(titles)), (300, 300));
    let (_, summary) = world.run(&world.define(&renamed)).await;
    assert_eq!(summary.unchanged, 300);
    // Back again, after the values have changed.
    let changed = lines(0, 300).replace("product ", "other ");
    std::fs::write(world.path("a.jsonl"), &changed).unwrap();
    assert_eq!(world.run(&world.define(&yaml)).await.1.written, 300);
    std::fs::write(world.path("a.jsonl"), lines(0, 300)).unwrap();
    let (_, summary) = world.run(&world.define(&renamed)).await;
    assert_eq!(
        (
            summary.written,
            world.number("SELECT count(*) FROM products WHERE title LIKE 'product %'")
        ),
        (300, 300)
    );
}

#[tokio::test]
async fn a_stale_cache_loses_no_row() {
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 500)).unwrap();
    let definition = world.define(&cached("{ type: embedded }"));
    let count = || world.number("SELECT count(*) FROM products");
    let sql = |sql: &str| {
        let connection = rusqlite::Connection::open(world.path("rows.db")).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    for emptied in ["DROP TABLE products", "DELETE FROM products"] {
        assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
        assert_eq!(count(), 500);
        sql(emptied);
        let (_, summary) = world.run(&definition).await;
        assert_eq!((summary.written, count()), (500, 500), "{emptied}");
    }
    // A lost or damaged cache only makes a run slower.
    let cache = definition.state_dir().join("cache.db");
    std::fs::write(&cache, vec![1; 10_000]).unwrap();
    let (_, summary) = world.run(&definition).await;
    assert_eq!((summary.written, count()), (500, 500));
}

#[cfg(feature = "redis")]
mod redis {
    use std::net::SocketAddr;

    use forebay_test_support::{poll_until, services};

    use super::*;
    use crate::switch::Switch;

    /// A switchable connection to the server, and a definition that uses it.
    async fn through_switch(test: &str, world: &World) -> Option<(Switch, String)> {
        let url = services::redis(test)?;
        let address = url.trim_start_matches("redis://").trim_end_matches('/');
        let server: SocketAddr = address.parse().unwrap();
        let switch = Switch::to(server).await;
        std::fs::write(world.path("a.jsonl"), lines(0, 3000)).unwrap();
        let yaml = cached(&format!(
            "{{ type: redis, url: 'redis://{}/' }}",
            switch.address
        ));
        Some((switch, yaml))
    }

    #[tokio::test]
    async fn a_redis_outage_at_the_start_or_in_the_middle_loses_no_row() {
        let world = World::new();
        let test = "a_redis_outage_at_the_start_or_in_the_middle_loses_no_row";
        let Some((switch, yaml)) = through_switch(test, &world).await else {
            return;
        };
        let definition = world.define(&yaml);
        let count = |name: &str| {
            world.number(&format!(
                "SELECT count(*) FROM products WHERE name LIKE '{name} %'"
            ))
        };
        let write = |name: &str| {
            let text = lines(0, 3000).replace("product ", &format!("{name} "));
            std::fs::write(world.path("a.jsonl"), text).unwrap();
        };
        write("one");
        let (end, summary) = world.run(&definition).await;
        assert_eq!(
            (end, summary.written, count("one")),
            (JobOutcome::Complete, 3000, 3000)
        );
        let (_, summary) = world.run(&definition).await;
        assert_eq!(summary.unchanged, 3000);
        // Down at the start: rows with other content are written.
        switch.set_on(false);
        write("two");
        let (end, _) = world.run(&definition).await;
        assert_eq!((end, count("two")), (JobOutcome::Complete, 3000));
        // Up again: the cache still has the hashes of "one", which are stale.
        switch.set_on(true);
        write("one");
        let (end, _) = world.run(&definition).await;
        assert_eq!((end, count("one")), (JobOutcome::Complete, 3000));
        // Down in the middle.
        write("three");
        let job = world.start(&definition);
        let progress = std::sync::Arc::clone(&job.progress);
        let written = || progress.summary(std::time::Duration::from_secs(1)).written;
        poll_until("some rows", || written() > 0).await;
        switch.set_on(false);
        assert_eq!(job.end().await.0, JobOutcome::Complete);
        assert_eq!(count("three"), 3000);
        switch.set_on(true);
        write("two");
        assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
        assert_eq!(count("two"), 3000);
    }
}
