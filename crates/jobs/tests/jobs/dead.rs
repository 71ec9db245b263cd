//! Dead dead_letters: list, drop, replay.

use forebay_jobs::JobOutcome;
use forebay_jobs::state::JobState;
use forebay_model::DeadLetterSelection;
use serde_json::{Value, json};

use crate::apis::{Messages, PostApi};
use crate::world::{World, dead};

fn echo(record: Value) -> String {
    record.to_string()
}

fn fixed(mut record: Value) -> String {
    record["processed"] = json!(true);
    record.to_string()
}

#[tokio::test]
async fn dead_letters_are_replayed_from_the_stage_where_they_failed() {
    let world = World::new();
    let api = Messages::with(20, 20);
    let (work, storage) = (PostApi::new(fixed), PostApi::new(echo));
    // 3 attempts per run: one record is rejected for good, the others until the replay.
    *work.reject.lock().unwrap() = [(4, 3)].into();
    *storage.reject.lock().unwrap() = [(7, 3), (8, 99)].into();
    let definition = world.define(&format!(
        "source:\n  type: http_api\n  baseUrl: {}\n  until: {{ emptyPage: true }}\n\
         processing: {{ url: {}, retry: {{ wait: 1ms }} }}\n\
         destination: {{ type: http, url: {}, retry: {{ wait: 1ms }} }}\n",
        api.serve().await,
        work.serve().await,
        storage.serve().await
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.dead, summary.written),
        (JobOutcome::Complete, 3, 17)
    );
    let dead_letters = dead(&definition.state_dir()).await;
    let mut stages: Vec<&str> = dead_letters.iter().map(|l| l.stage.as_str()).collect();
    stages.sort_unstable();
    assert_eq!(stages, ["processing", "storage", "storage"]);

    let (end, summary) = world.replay(&definition, DeadLetterSelection::ALL).await;
    assert_eq!(end, JobOutcome::Complete);
    assert_eq!((summary.read, summary.written, summary.dead), (3, 2, 1));
    assert_eq!(
        work.count(),
        20,
        "what was processed is not processed again"
    );
    let mut ids = storage.ids();
    ids.dedup();
    assert_eq!(ids.len(), 19);
    assert!(
        storage
            .accepted
            .lock()
            .unwrap()
            .iter()
            .all(|r| r["processed"] == true)
    );

    let dead_letters = dead(&definition.state_dir()).await;
    assert_eq!(dead_letters.len(), 1);
    let state = JobState::inspect(&definition.state_dir()).unwrap();
    let shown = state
        .dead_letter(dead_letters[0].id)
        .await
        .unwrap()
        .unwrap();
    assert!(shown.body.starts_with(b"{\"id\":8"), "{shown:?}");
    for (selection, dropped) in [
        (DeadLetterSelection::These(vec![999]), 0),
        (DeadLetterSelection::ALL, 1),
    ] {
        let report = state.discard_dead_letters(selection).await.unwrap();
        assert_eq!(report.dropped, dropped);
    }
    assert!(dead(&definition.state_dir()).await.is_empty());
}

#[tokio::test]
async fn a_record_that_is_not_a_valid_row_is_a_dead_letter_and_the_others_are_written() {
    let world = World::new();
    let api = Messages::with(10, 10);
    api.records.lock().unwrap()[3] = json!({ "id": "three" });
    api.records.lock().unwrap()[5] = json!({ "name": "no id" });
    let definition = world.define(&format!(
        "source:\n  type: http_api\n  baseUrl: {}\n  until: {{ emptyPage: true }}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n",
        api.serve().await
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.written, summary.dead),
        (JobOutcome::Complete, 8, 2)
    );
    let dead_letters = dead(&definition.state_dir()).await;
    assert!(
        dead_letters[0]
            .error
            .contains("is \"three\", it has to be a whole number")
    );
    assert!(dead_letters[1].error.contains("no value at `id`"));
}
