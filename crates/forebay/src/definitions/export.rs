//! The definitions of a server as files.

use forebay_api::settings::SettingsView;
use forebay_api::sink::{SinkList, SinkView};
use forebay_api::source::{SourceList, SourceView};
use futures::{StreamExt, TryStreamExt, stream};

use super::schema::refer_to_secrets;
use super::{DefinitionFile, SinkDefinition, SourceDefinition};
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES};
use crate::cli_error::CliError;

/// All sources of a server with their sinks, sorted by id, without what is the default.
pub(crate) async fn export_sources(api: &ApiClient) -> Result<Vec<SourceDefinition>, CliError> {
    let sources = api.list::<SourceList>(SOURCES).await?;
    stream::iter(sources)
        .map(|source| export_source(api, source))
        .buffered(PARALLEL_REQUESTS)
        .try_collect()
        .await
}

async fn export_source(api: &ApiClient, view: SourceView) -> Result<SourceDefinition, CliError> {
    let path = format!("{SOURCES}/{}", view.source_id);
    let settings: SettingsView = api.get(&format!("{path}/settings")).await?;
    let mut source = SourceDefinition::from_view(&view, Some(&settings));
    let sinks = api.list::<SinkList>(&format!("{path}/sinks")).await?;
    source.sinks = stream::iter(sinks)
        .map(|sink| export_sink(api, sink))
        .buffered(PARALLEL_REQUESTS)
        .try_collect()
        .await?;
    refer_to_secrets("SourceDefinition", &mut source.wire, &view.source_id);
    for sink in &mut source.sinks {
        let name = format!(
            "{}_{}",
            view.source_id,
            sink.id.as_deref().unwrap_or_default()
        );
        refer_to_secrets("SinkDefinition", &mut sink.wire, &name);
    }
    source.simplify();
    Ok(source)
}

async fn export_sink(api: &ApiClient, view: SinkView) -> Result<SinkDefinition, CliError> {
    let path = format!(
        "{SOURCES}/{}/sinks/{}/settings",
        view.source_id, view.sink_id
    );
    let settings: SettingsView = api.get(&path).await?;
    Ok(SinkDefinition::from_view(&view, Some(&settings)))
}

/// Sources as a definition file.
pub(crate) fn yaml_text(sources: Vec<SourceDefinition>) -> Result<String, CliError> {
    serde_saphyr::to_string(&DefinitionFile { sources }).map_err(CliError::new)
}

#[cfg(test)]
mod tests {
    use forebay_test_support::random::SeededRandom;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Environment;
    use crate::definitions::column::DATA_TYPES;
    use crate::definitions::{ColumnDefinition, DefinitionSet, TopicDefinition};

    /// Texts that a format could change.
    const TEXTS: [&str; 22] = [
        "a",
        "",
        " ",
        "null",
        "~",
        "true",
        "no",
        "y",
        "1.10",
        "007",
        "0x1F",
        ".inf",
        "2024-01-01",
        "a: b",
        "# c",
        "- d",
        "{}",
        "'q\"",
        "two\nlines\n",
        "\ttab ",
        "žluť 日本",
        "*a &b !c %d @e",
    ];

    fn text(random: &mut SeededRandom) -> String {
        (*random.pick(&TEXTS)).to_owned()
    }

    fn column(random: &mut SeededRandom, name: usize) -> ColumnDefinition {
        let mut column = ColumnDefinition {
            name: format!("{}{name}", text(random)),
            kind: (*random.pick(&["uuid", "path", "template", "static"])).to_owned(),
            primary_key: random.one_in(3),
            data_type: random
                .one_in(3)
                .then(|| (*random.pick(&DATA_TYPES)).to_owned()),
            unit: random
                .one_in(4)
                .then(|| (*random.pick(&["s", "ms", "us", "ns"])).to_owned()),
            ..ColumnDefinition::default()
        };
        match column.kind.as_str() {
            "path" => {
                column.path = Some(text(random));
                column.default_value = random.one_in(2).then(|| text(random));
            }
            "template" => column.template = Some(format!("x{}", text(random))),
            "static" => column.value = Some(text(random)),
            _ => {}
        }
        if random.one_in(3) && matches!(column.kind.as_str(), "path" | "template") {
            column.raw_string = Some(random.one_in(2));
        }
        column
    }

    fn setting(random: &mut SeededRandom) -> Value {
        match random.below(4) {
            0 => text(random).into(),
            1 => random.below(1000).into(),
            2 => random.one_in(2).into(),
            _ => json!([text(random), text(random)]),
        }
    }

    fn sink(random: &mut SeededRandom, index: usize) -> SinkDefinition {
        let mut sink = SinkDefinition {
            id: Some(format!("sink-{index}")),
            name: random.one_in(2).then(|| format!("n{}", text(random))),
            description: text(random),
            settings: [("x.y".to_owned(), setting(random))].into(),
            ..SinkDefinition::default()
        };
        if random.one_in(3) {
            let topic = json!({
                "provider": "main", "topic": "t", "batches": random.one_in(2),
                "message": {
                    "key": { "type": "static", "value": text(random) },
                    "headers": [{ "type": "static", "name": "h", "value": text(random) }],
                },
            });
            sink.http = Some(serde_json::from_value::<TopicDefinition>(topic).unwrap());
        } else {
            sink.table = Some("in.a.b".to_owned());
            sink.columns = (0..=random.index(4)).map(|i| column(random, i)).collect();
        }
        sink
    }

    #[test]
    fn an_exported_file_is_read_as_the_same_definitions() {
        for seed in 0..300 {
            let random = &mut SeededRandom::new(seed);
            let source = |random: &mut SeededRandom, i: usize| SourceDefinition {
                name: format!("n{}", text(random)),
                id: Some(format!("source-{i}")),
                description: text(random),
                settings: [("source.a".to_owned(), setting(random))].into(),
                sinks: (0..random.index(3)).map(|k| sink(random, k)).collect(),
                ..SourceDefinition::default()
            };
            let sources: Vec<_> = (0..=random.index(2)).map(|i| source(random, i)).collect();
            let exported = yaml_text(sources.clone()).unwrap();
            let texts = vec![("a.yaml".to_owned(), exported.clone())];
            let read = DefinitionSet::from_texts(texts, &Environment::default());
            let read = read.unwrap_or_else(|problems| panic!("{}\n{exported}", problems[0]));
            let read: Vec<_> = read.sources.into_iter().map(|s| s.definition).collect();
            assert_eq!(read, sources, "seed {seed}\n{exported}");
        }
    }

    #[test]
    fn what_is_the_default_is_not_exported() {
        let mut source = SourceDefinition {
            name: "My shop".to_owned(),
            id: Some("my-shop".to_owned()),
            sinks: vec![SinkDefinition {
                table: Some("in.a.orders".to_owned()),
                backend: Some("keboola".to_owned()),
                name: Some("orders".to_owned()),
                id: Some("orders".to_owned()),
                columns: vec![ColumnDefinition {
                    name: "a".to_owned(),
                    kind: "path".to_owned(),
                    path: Some("a".to_owned()),
                    raw_string: Some(true),
                    ..ColumnDefinition::default()
                }],
                ..SinkDefinition::default()
            }],
            ..SourceDefinition::default()
        };
        source.simplify();
        let value = serde_json::to_value(&source).unwrap();
        assert_eq!(
            value,
            json!({ "name": "My shop", "sinks": [
                { "table": "in.a.orders", "columns": [{ "name": "a", "type": "path", "path": "a" }] },
            ]})
        );
    }
}
