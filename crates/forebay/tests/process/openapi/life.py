"""Life cycle of a source, a sink and tokens with the client generated from the served document. Any
error of the document, such as a status, a field or a type, fails the run: the client raises an error
for an undocumented response.

usage: life.py FOLDER-OF-THE-PACKAGE API TOKEN
"""

import datetime
import sys
import time

sys.path.insert(0, sys.argv[1])
from client import AuthenticatedClient
from client.api.admin import audit, create_token, get_token, list_tokens, revoke_token, rotate_token
from client.api.documentation import health_check, version_index
from client.api.sink import (
    clear_sink_statistics, create_sink, delete_sink, disable_sink, enable_sink, get_sink,
    get_sink_settings, get_sink_version, list_dead_letters, list_deleted_sinks, list_sink_versions,
    list_sinks, rollback_sink_version, sink_statistics_reconciliation, sink_statistics_files,
    sink_statistics_total, undelete_sink, update_sink, update_sink_settings,
)
from client.api.source import (
    aggregation_sources, clear_source_statistics, create_source, delete_source, disable_source,
    enable_source, get_source, get_source_settings, get_source_version, list_deleted_sources,
    list_source_versions, list_sources, rollback_source_version, rotate_source_secret, test_source,
    undelete_source, update_source, update_source_settings,
)
from client.api.task import get_task
from client.models import (
    ColumnType, CreateSinkRequestBody, CreateSourceRequestBody, CreateTokenRequestBody, Error,
    ErrorError, RotateTokenRequestBody, SettingPatch, SettingsPatch, SinkType, SourceType,
    TableColumnRequest, TableColumnTemplate, TableMappingRequest, TableSinkCreate, TableSinkUpdate,
    TableType, TaskStatus, TemplateLanguage, TokenRole, UpdateSinkRequestBody,
    UpdateSourceRequestBody,
)
from client.types import Unset

PATIENCE = 60.0


def client(token):
    return AuthenticatedClient(
        base_url=sys.argv[2], token=token, raise_on_unexpected_status=True, timeout=PATIENCE
    )


api = client(sys.argv[3])
BRANCH, SOURCE, SINK = "default", "client", "rows"
OF_SOURCE = (BRANCH, SOURCE)
OF_SINK = (BRANCH, SOURCE, SINK)


def ask(operation, *address, by=api, status=200, **more):
    """Returns the parsed response of an operation, which must have this status."""
    answer = operation.sync_detailed(*address, client=by, **more)
    assert answer.status_code == status, (operation.__name__, answer)
    return answer.parsed


def rejected(name, status, operation, *address, **more):
    """Asserts that the operation returns this error."""
    error = ask(operation, *address, status=status, **more)
    assert isinstance(error, Error), error
    assert (error.error, error.status_code) == (ErrorError(name), status), error


def done(operation, *address, **more):
    """Runs the task of an operation, which must succeed."""
    task = ask(operation, *address, status=202, **more)
    assert task.status in (TaskStatus.PROCESSING, TaskStatus.SUCCESS), task
    until = time.monotonic() + PATIENCE
    while not task.is_finished:
        assert time.monotonic() < until, task
        task = ask(get_task, task.task_id)
    assert task.status is TaskStatus.SUCCESS, task
    return task


def mapping():
    template = TableColumnTemplate(TemplateLanguage.JSONNET, "Body('n') + 1")
    return TableMappingRequest([
        TableColumnRequest(ColumnType.UUID, "id"),
        TableColumnRequest(ColumnType.PATH, "n", path="n", default_value="0", raw_string=True),
        TableColumnRequest(ColumnType.TEMPLATE, "next", template=template),
    ])


def made():
    assert ask(version_index, by=api).api == "stream"
    assert ask(health_check) == "OK"
    body = CreateSourceRequestBody(SourceType.HTTP, "Client", description="By a client.")
    task = done(create_source, BRANCH, body=body)
    assert task.outputs.source_id == SOURCE
    rejected("stream.api.sourceAlreadyExists", 409, create_source, BRANCH, body=body)
    table = TableSinkCreate(TableType.KEBOOLA, "in.client.rows", mapping())
    body = CreateSinkRequestBody(SinkType.TABLE, "Rows", sink_id=SINK, table=table)
    assert done(create_sink, *OF_SOURCE, body=body).outputs.sink_id == SINK
    source, sink = ask(get_source, *OF_SOURCE), ask(get_sink, *OF_SINK)
    assert "/stream/" in source.http.url and isinstance(source.deleted, Unset)
    assert [c.name for c in sink.table.mapping.columns] == ["id", "n", "next"]
    assert sink.created.at.tzinfo is not None
    assert [s.source_id for s in ask(list_sources, BRANCH, limit=1).sources] == [SOURCE]
    assert ask(list_sinks, *OF_SOURCE).page.total_count == 1
    aggregated = ask(aggregation_sources, BRANCH).sources[0]
    assert aggregated.sinks[0].statistics.total.records_count == 0


def tried():
    row = ask(test_source, *OF_SOURCE, body={"n": 41}).tables[0].rows[0]
    assert [c.value for c in row.columns[1:]] == ["41", "42"], row
    rejected("stream.api.unprocessableContent", 422, test_source, *OF_SOURCE, body={})


def changed():
    body = UpdateSourceRequestBody(description="Changed.", change_description="By a client.")
    done(update_source, *OF_SOURCE, body=body)
    assert ask(get_source_version, *OF_SOURCE, 2).description == "By a client."
    table = TableSinkUpdate(mapping=mapping())
    done(update_sink, *OF_SINK, body=UpdateSinkRequestBody(name="Renamed", table=table))
    assert ask(get_sink, *OF_SINK).name == "Renamed"
    done(disable_source, *OF_SOURCE, reason="A pause.")
    assert ask(get_source, *OF_SOURCE).disabled.reason == "A pause."
    done(enable_source, *OF_SOURCE)
    done(disable_sink, *OF_SINK)
    assert ask(get_sink, *OF_SINK).disabled.reason == "API"
    done(enable_sink, *OF_SINK)
    assert isinstance(ask(get_sink, *OF_SINK).disabled, Unset)
    address = ask(get_source, *OF_SOURCE).http.url
    assert ask(rotate_source_secret, *OF_SOURCE).http.url != address


def configured():
    key = "storage.level.target.import.trigger.count"
    for settings, change, address in [
        (get_source_settings, update_source_settings, OF_SOURCE),
        (get_sink_settings, update_sink_settings, OF_SINK),
    ]:
        def value():
            found = [s for s in ask(settings, *address).settings if s.key == key]
            return found[0].value, found[0].overwritten
        assert value()[1] is False
        done(change, *address, body=SettingsPatch(settings=[SettingPatch(key, 7)]))
        assert value() == (7, True)
        body = SettingsPatch(settings=[SettingPatch(key, 0)])
        rejected("stream.api.badRequest", 400, change, *address, body=body)
        done(change, *address, body=SettingsPatch(settings=[SettingPatch(key, None)]))
        assert value()[1] is False


def rolled_back():
    versions = ask(list_sink_versions, *OF_SINK, limit=2)
    assert [v.number for v in versions.versions] == [1, 2] and versions.page.total_count > 2
    assert ask(get_sink_version, *OF_SINK, 1).description == "New sink."
    done(rollback_sink_version, *OF_SINK, 1)
    assert ask(get_sink, *OF_SINK).name == "Rows"
    assert ask(list_source_versions, *OF_SOURCE).versions[0].number == 1
    done(rollback_source_version, *OF_SOURCE, 1)
    assert ask(get_source, *OF_SOURCE).description == "By a client."
    rejected("stream.api.sourceVersionNotFound", 404, get_source_version, *OF_SOURCE, 99)


def counted():
    assert ask(sink_statistics_total, *OF_SINK).total.records_count == 0
    # At least one file of this sink is open.
    files = ask(sink_statistics_files, *OF_SINK).files
    assert files and files[-1].opened_at.tzinfo is not None, files
    reconciliation = ask(sink_statistics_reconciliation, *OF_SINK)
    assert reconciliation.holds and reconciliation.accepted == 0
    assert ask(list_dead_letters, *OF_SINK).dead_letters == []
    ask(clear_sink_statistics, *OF_SINK)
    ask(clear_source_statistics, *OF_SOURCE)


def ended():
    done(delete_sink, *OF_SINK)
    rejected("stream.api.sinkNotFound", 404, get_sink, *OF_SINK)
    assert ask(list_deleted_sinks, *OF_SOURCE).sinks[0].deleted.by.type_.value == "user"
    done(undelete_sink, *OF_SINK)
    done(delete_source, *OF_SOURCE)
    assert [s.source_id for s in ask(list_deleted_sources, BRANCH).sources] == [SOURCE]
    done(undelete_source, *OF_SOURCE)
    ask(get_sink, *OF_SINK)
    done(delete_source, *OF_SOURCE, cascade=True)
    rejected("stream.api.deletedSourceNotFound", 404, undelete_source, *OF_SOURCE)


def opened():
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    body = CreateTokenRequestBody(TokenRole.READER, description="A reader.", expires_at=expires.isoformat())
    token = ask(create_token, body=body, status=201)
    reader = client(token.token)
    ask(list_sources, BRANCH, by=reader)
    source = CreateSourceRequestBody(SourceType.HTTP, "x")
    rejected("stream.api.forbidden", 403, create_source, BRANCH, by=reader, body=source)
    assert ask(get_token, token.token_id).description == "A reader."
    assert token.token_id in [t.token_id for t in ask(list_tokens).tokens]
    fresh = ask(rotate_token, token.token_id, body=RotateTokenRequestBody(overlap="1h"))
    assert fresh.previous_valid_until > fresh.rotated_at
    ask(list_sources, BRANCH, by=client(fresh.token))
    ask(revoke_token, token.token_id, status=204)
    rejected("storage.tokenInvalid", 401, list_sources, BRANCH, by=reader)
    assert ask(audit, limit=5).page.total_count > 5


for part in (made, tried, changed, configured, rolled_back, counted, ended, opened):
    part()
    print(part.__name__, "as documented")
