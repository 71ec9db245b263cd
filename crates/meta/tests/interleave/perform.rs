//! The call of each operation.

use forebay_meta::Repo;
use forebay_meta::catalog::dead_letters::DeadLetterOutcome;
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_meta::catalog::table_drop::FilledTable;
use forebay_meta::catalog::tasks::TaskRetention;
use forebay_meta::kv::store::Txn;
use forebay_model::quota::QuotaOverrides;
use forebay_model::{
    FileState, NodeId, ProjectId, SinkKey, SinkTarget, SliceKey, SliceState, SourceKey, TaskEnd,
};

use crate::common::{at, sink_content, sink_key, source_content, source_key, stamp};

use crate::ops::*;

/// Runs an operation; `now` is the actor's clock, in milliseconds.
pub(crate) async fn perform(repo: &Repo, op: Op, targets: &Targets, now: i64) -> Outcome {
    let stamp = stamp(now);
    let text = format!("Changed at {now}.");
    match op {
        Op::CreateSource => {
            let content = source_content(&text);
            done(repo.create_source(&source(), content, &text, &stamp).await)
        }
        Op::CreateOtherSource => {
            let (key, content) = (source_key("new"), source_content(&text));
            done(repo.create_source(&key, content, &text, &stamp).await)
        }
        Op::UpdateSource => {
            let key = source();
            let update = repo.update_source(&key, &text, &stamp, |content| {
                content.description.push_str(&text);
                Ok(())
            });
            done(update.await)
        }
        Op::RollbackSource => done(repo.rollback_source(&source(), 1, &stamp).await),
        Op::DeleteSource => done(repo.delete_source(&source(), &stamp).await),
        Op::UndeleteSource => done(repo.undelete_source(&source(), &stamp).await),
        Op::DisableSource => done(repo.disable_source(&source(), &text, &stamp).await),
        Op::EnableSource => done(repo.enable_source(&source(), &stamp).await),
        Op::PurgeSource => done(repo.purge_source(&source(), &stamp).await),
        Op::ClearStatistics => done(repo.clear_statistics(&sink(), &stamp).await),
        Op::CreateTask
        | Op::FinishTask
        | Op::FailAbandoned
        | Op::RemoveTasks
        | Op::CreateToken
        | Op::FirstToken
        | Op::FirstTokenElsewhere
        | Op::RotateToken
        | Op::RevokeToken
        | Op::SetQuota
        | Op::ResetQuota
        | Op::Cluster => beside(repo, op, now).await,
        Op::Statistics | Op::LetterOwner | Op::FilledTables | Op::ActiveSink | Op::KnownSlice => {
            look(repo, op, targets).await
        }
        Op::Replay | Op::Drop | Op::ReportLetters | Op::ForgetLetters => {
            dead_letters(repo, op, targets, now).await
        }
        Op::RotateFile
        | Op::RotateSlice
        | Op::Report
        | Op::Uploading
        | Op::Uploaded
        | Op::UploadedAgain
        | Op::SliceFailed
        | Op::Importing
        | Op::Imported
        | Op::FileFailed
        | Op::RejectFile
        | Op::ImportAgain
        | Op::Lost
        | Op::Remove => files(repo, op, targets, now).await,
        op if op.is_of_a_table() => tables(repo, op, now).await,
        Op::Careless => careless(repo).await,
        _ => sinks(repo, op, now).await,
    }
}

/// Writes what it has read without a precondition: the suite must detect this.
async fn careless(repo: &Repo) -> Outcome {
    let read = repo.store().get("count").await.unwrap();
    let mut count = read.map(|e| e.value.to_vec()).unwrap_or_default();
    count.push(b'|');
    let mut txn = Txn::new();
    txn.put("count", count);
    done(repo.store().txn(txn).await)
}

/// The table that the sinks fill.
fn table() -> FilledTable {
    let content = sink_content("");
    let table = content.target.table().unwrap();
    FilledTable {
        backend: table.backend,
        table: table.table.clone(),
    }
}

async fn tables(repo: &Repo, op: Op, now: i64) -> Outcome {
    let (FilledTable { backend, table: id }, by) = (table(), stamp(now));
    let (own, other) = (ProjectId(1), ProjectId(2));
    match op {
        Op::FillTable => done(repo.fill_table(own, backend, &id, false, &by).await),
        Op::BeginDrop => shown(repo.begin_drop(&source(), &table(), &by).await),
        Op::TableDropped => done(repo.table_dropped(&source(), &table()).await),
        Op::TableNotDropped => done(repo.table_not_dropped(&source(), &table()).await),
        Op::TransferTable => done(repo.transfer_table(backend, &id, other, false, &by).await),
        Op::ShareTable => done(repo.share_table(backend, &id, other, &by).await),
        Op::UnshareTable => done(repo.unshare_table(backend, &id, other, false, &by).await),
        _ => shown(repo.release_tables().await),
    }
}

/// A sink of another project that names the same table.
pub(crate) fn foreign_source() -> SourceKey {
    let mut key = source_key("far");
    key.branch.project = ProjectId(2);
    key
}

async fn sinks(repo: &Repo, op: Op, now: i64) -> Outcome {
    let (key, stamp, volumes) = (sink(), stamp(now), volumes());
    let text = format!("Changed at {now}.");
    match op {
        Op::CreateSink | Op::CreateOtherSink => {
            let key = match op {
                Op::CreateSink => key,
                _ => sink_key("src", "new"),
            };
            let content = sink_content(&text);
            done(
                repo.create_sink(&key, content, &text, &volumes, &stamp)
                    .await,
            )
        }
        Op::UpdateSink => {
            let update = repo.update_sink(&key, &text, &volumes, &stamp, |content| {
                content.description.push_str(&text);
                Ok(())
            });
            done(update.await)
        }
        Op::CreateForeignSink => {
            let key = SinkKey {
                source: foreign_source(),
                sink: key.sink,
            };
            let content = sink_content(&text);
            done(
                repo.create_sink(&key, content, &text, &volumes, &stamp)
                    .await,
            )
        }
        Op::MoveTable => {
            let update = repo.update_sink(&key, &text, &volumes, &stamp, |content| {
                if let SinkTarget::Table(table) = &mut content.target {
                    table.table = "in.c-b.moved".parse().unwrap();
                }
                Ok(())
            });
            done(update.await)
        }
        Op::TurnIntoTopic => {
            let update = repo.update_sink(&key, &text, &volumes, &stamp, |content| {
                content.target = topic_target();
                Ok(())
            });
            done(update.await)
        }
        Op::DeleteSink => done(repo.delete_sink(&key, &stamp).await),
        Op::UndeleteSink => done(repo.undelete_sink(&key, &volumes, &stamp).await),
        Op::DisableSink => done(repo.disable_sink(&key, &text, &stamp).await),
        Op::EnableSink => done(repo.enable_sink(&key, &volumes, &stamp).await),
        Op::SettleSink => done(repo.settle_sink(&key, &volumes, &stamp).await),
        Op::PauseTopic => done(repo.pause_sink(&topic(), &text, &stamp).await),
        Op::ResumeTopic => done(repo.resume_sink(&topic(), &stamp).await),
        _ => done(repo.delete_sink(&topic(), &stamp).await),
    }
}

async fn files(repo: &Repo, op: Op, targets: &Targets, now: i64) -> Outcome {
    let (millis, now) = (now, at(now));
    let none = || Ok("none".to_owned());
    let of_file = match op {
        Op::RotateFile => Some(FileState::Writing),
        Op::Importing => Some(FileState::Closing),
        Op::Imported | Op::FileFailed | Op::RejectFile => Some(FileState::Importing),
        Op::Remove | Op::ImportAgain | Op::Lost => Some(FileState::Imported),
        _ => None,
    };
    if let Some(state) = of_file {
        let Some(key) = targets.file(state) else {
            return none();
        };
        return match op {
            Op::RotateFile => done(repo.rotate_file(key, &volumes(), now).await),
            Op::Importing => done(repo.file_importing(key, now).await),
            Op::Imported => done(repo.file_imported(key, 7, now).await),
            Op::FileFailed => done(repo.file_failed(key, &failure(), now).await),
            Op::RejectFile => done(repo.reject_file(key, &stamp(millis)).await),
            Op::ImportAgain => done(repo.reimport_file(key, &[]).await),
            Op::Lost => done(repo.imported_file_lost(key, Some(now)).await),
            _ => done(repo.remove_imported(key).await),
        };
    }
    let state = match op {
        Op::RotateSlice | Op::Report => SliceState::Writing,
        Op::Uploading => SliceState::Closing,
        Op::UploadedAgain => SliceState::Uploaded,
        _ => SliceState::Uploading,
    };
    let Some(key) = targets.slice(state) else {
        return none();
    };
    let records = counted(u64::try_from(millis).unwrap());
    match op {
        Op::RotateSlice => done(repo.rotate_slice(key, now).await),
        Op::Report => {
            let node = NodeId(format!("n{millis}"));
            let reports = [(key.clone(), records)];
            done(repo.report_statistics(&node, &reports).await)
        }
        Op::Uploading => done(repo.slice_uploading(key, records, now).await),
        Op::Uploaded => done(
            repo.slice_uploaded(key, crate::common::staged(9), 0, now)
                .await,
        ),
        Op::UploadedAgain => done(
            repo.slice_reuploaded(key, crate::common::staged(8), 1)
                .await,
        ),
        _ => done(repo.slice_failed(key, &failure(), now).await),
    }
}

async fn dead_letters(repo: &Repo, op: Op, targets: &Targets, now: i64) -> Outcome {
    let (sink, volume) = (sink(), volumes().remove(0));
    match op {
        Op::Replay => {
            let Some(file) = targets.file(FileState::Writing) else {
                return Ok("none".to_owned());
            };
            let slice = SliceKey {
                file: file.clone(),
                volume: volume.clone(),
                opened_at: at(now),
            };
            let replayed = finished(DeadLetterOutcome::Replayed(slice, counted(1)));
            let finish = repo.resolve_dead_letters(&sink, &volume, &replayed, at(now));
            done(finish.await)
        }
        Op::Drop => {
            let dropped = finished(DeadLetterOutcome::Dropped);
            let finish = repo.resolve_dead_letters(&sink, &volume, &dropped, at(now));
            done(finish.await)
        }
        Op::ReportLetters => {
            let counts = DeadLetterCounts { taken: 3, lost: 1 };
            done(repo.report_dead_letters(&[(sink, volume, counts)]).await)
        }
        _ => done(repo.remove_dead_letter_state(&sink).await),
    }
}

async fn beside(repo: &Repo, op: Op, now: i64) -> Outcome {
    let project = ProjectId(1);
    match op {
        Op::CreateTask => done(repo.create_task(&task("new", now)).await),
        Op::FinishTask => {
            let end = TaskEnd {
                finished_at: at(now),
                duration_ms: 1,
                outcome: Ok(now.to_string()),
                warnings: Vec::new(),
            };
            done(repo.finish_task(project, "old", end).await)
        }
        Op::FailAbandoned => shown(repo.fail_abandoned_tasks(at(now)).await),
        Op::RemoveTasks => {
            let far = at(now + 72 * 3_600_000);
            shown(repo.remove_old_tasks(TaskRetention::default(), far).await)
        }
        Op::CreateToken => done(repo.create_token(&token(now)).await),
        Op::FirstToken | Op::FirstTokenElsewhere => {
            let branch = u64::from(op == Op::FirstToken);
            let first = other_token(&format!("2-{op:?}{now}"), branch, now);
            done(repo.create_token(&first).await)
        }
        Op::RotateToken => {
            let (sha256, overlap) = (format!("{now:064}"), std::time::Duration::ZERO);
            done(
                repo.rotate_token(project, "1-a", &sha256, overlap, &stamp(now))
                    .await,
            )
        }
        Op::RevokeToken => done(repo.revoke_token(project, "1-a", &stamp(now)).await),
        Op::SetQuota | Op::ResetQuota => {
            let quota = QuotaOverrides {
                connections: (op == Op::SetQuota).then_some(now.unsigned_abs()),
                ..QuotaOverrides::default()
            };
            done(repo.set_quota(project, &quota, &stamp(now)).await)
        }
        _ => shown(repo.cluster_id(now.unsigned_abs().into()).await),
    }
}

async fn look(repo: &Repo, op: Op, targets: &Targets) -> Outcome {
    match op {
        Op::Statistics => {
            // Dead-letter counts may be newer than the rest: compare the reconciliation only.
            let counted = repo.sink_statistics(&sink()).await;
            shown(counted.map(|s| {
                let levels = (s.local, s.staging, s.target, s.shown_target);
                (levels, s.imported_rows, s.reconciliation().holds())
            }))
        }
        Op::LetterOwner => shown(repo.dead_letter_owner(&sink()).await),
        Op::FilledTables => shown(repo.filled_tables(&source()).await),
        Op::KnownSlice => {
            let Some((_, slice)) = targets.slices.iter().find(|(_, s)| targets.in_importing(s))
            else {
                return Ok("none".to_owned());
            };
            shown(repo.slice_exists(slice).await)
        }
        _ => shown(repo.sink(&sink()).await.map(value)),
    }
}

/// Stores the data that every state has besides sources and sinks.
pub(crate) async fn beside_all(repo: &Repo) {
    repo.create_task(&task("old", 0)).await.unwrap();
    repo.create_token(&token(0)).await.unwrap();
}
