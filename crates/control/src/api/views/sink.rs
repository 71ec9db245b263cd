//! Sinks and their mappings.

use forebay_api::mapping::{ColumnTemplate, ColumnType, ColumnView, MappingView, TemplateLanguage};
use forebay_api::sink::{SinkType, SinkView, TableSinkView};
use forebay_model::{ColumnKind, Mapping, MappingColumn, Sink, TableSink};

use super::ToView;

impl ToView for Sink {
    type View = SinkView;

    fn to_view(&self) -> SinkView {
        let source = &self.key.source;
        SinkView {
            project_id: source.branch.project.0,
            branch_id: source.branch.branch.0,
            source_id: source.source.to_string(),
            sink_id: self.key.sink.to_string(),
            r#type: SinkType::from_target(&self.target),
            name: self.name.clone(),
            description: self.description.clone(),
            definition_set: self.definition_set.clone(),
            table: self.target.table().map(ToView::to_view),
            topic: self.target.topic().map(ToView::to_view),
            version: self.version.to_view(),
            created: self.created.to_view(),
            deleted: self.deleted.as_ref().map(|d| d.stamp.to_view()),
            disabled: self.disabled.as_ref().map(ToView::to_view),
            paused: self.paused.as_ref().map(ToView::to_view),
        }
    }
}

impl ToView for TableSink {
    type View = TableSinkView;

    fn to_view(&self) -> TableSinkView {
        TableSinkView {
            r#type: self.backend.into(),
            table_id: self.table.to_string(),
            mapping: self.mapping.to_view(),
        }
    }
}

impl ToView for Mapping {
    type View = MappingView;

    fn to_view(&self) -> MappingView {
        MappingView {
            columns: self.columns.iter().map(ToView::to_view).collect(),
        }
    }
}

/// The fields of the column's type, and the primary key if set.
impl ToView for MappingColumn {
    type View = ColumnView;

    fn to_view(&self) -> ColumnView {
        let mut view = ColumnView {
            r#type: column_type(&self.kind),
            name: self.name.clone(),
            path: None,
            default_value: None,
            raw_string: None,
            template: None,
            value: None,
            primary_key: self.primary_key.then_some(true),
            data_type: (!self.data_type.is_text()).then(|| self.data_type.into()),
            unit: self.unit.map(Into::into),
        };
        match &self.kind {
            ColumnKind::Path(path) => {
                view.path = Some(path.path.clone());
                view.default_value.clone_from(&path.default_value);
                view.raw_string = Some(path.raw_string);
            }
            ColumnKind::Template(template) => {
                view.raw_string = Some(template.raw_string);
                view.template = Some(ColumnTemplate {
                    language: TemplateLanguage::Jsonnet,
                    content: template.content.clone(),
                });
            }
            ColumnKind::Static { value } => view.value = Some(value.clone()),
            ColumnKind::Uuid
            | ColumnKind::Datetime
            | ColumnKind::Ip
            | ColumnKind::Body
            | ColumnKind::Headers => {}
        }
        view
    }
}

fn column_type(kind: &ColumnKind) -> ColumnType {
    match kind {
        ColumnKind::Uuid => ColumnType::Uuid,
        ColumnKind::Datetime => ColumnType::Datetime,
        ColumnKind::Ip => ColumnType::Ip,
        ColumnKind::Body => ColumnType::Body,
        ColumnKind::Headers => ColumnType::Headers,
        ColumnKind::Path(_) => ColumnType::Path,
        ColumnKind::Template(_) => ColumnType::Template,
        ColumnKind::Static { .. } => ColumnType::Static,
    }
}
