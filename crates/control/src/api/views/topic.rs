//! Topic sinks and their delivery.

use forebay_api::topic::{
    DeliveryLag, DeliveryView, MessagePartView, ProviderStateName, ProviderView, TopicMessageView,
    TopicSinkView,
};
use forebay_model::{
    ColumnKind, MappingColumn, MessageMapping, MessageValue, TopicKind, TopicSink, TopicState,
    TopicStatistics,
};

use super::ToView;

impl ToView for TopicSink {
    type View = TopicSinkView;

    fn to_view(&self) -> TopicSinkView {
        let is_http = self.kind == TopicKind::Http;
        TopicSinkView {
            provider: self.provider.clone(),
            topic: self.topic.clone(),
            batches: is_http.then_some(self.batches),
            method: is_http.then(|| self.method.into()),
            message: self.message.to_view(),
        }
    }
}

impl ToView for MessageMapping {
    type View = TopicMessageView;

    fn to_view(&self) -> TopicMessageView {
        let views = |columns: &[MappingColumn]| columns.iter().map(ToView::to_view).collect();
        let (value, fields) = match &self.value {
            MessageValue::Part(kind) => (Some(part_view(kind)), None),
            MessageValue::Object(fields) => (None, Some(views(fields))),
        };
        TopicMessageView {
            value,
            fields,
            key: self.key.as_ref().map(part_view),
            headers: views(&self.headers),
        }
    }
}

/// A message part: a column without a name.
fn part_view(kind: &ColumnKind) -> MessagePartView {
    let column = MappingColumn::new("", kind.clone());
    let column = column.to_view();
    MessagePartView {
        r#type: column.r#type,
        path: column.path,
        default_value: column.default_value,
        raw_string: column.raw_string,
        template: column.template,
        value: column.value,
    }
}

/// Delivery status of a topic.
pub(in crate::api) fn delivery_view(topic: &TopicSink, counts: TopicStatistics) -> DeliveryView {
    DeliveryView {
        accepted: counts.accepted,
        delivered: counts.delivered,
        dead: counts.dead,
        discarded: counts.discarded,
        lost: counts.lost,
        in_flight: counts.in_flight,
        retries: counts.retries,
        lag: DeliveryLag {
            records: counts.waiting,
            bytes: counts.waiting_bytes,
            oldest_at: counts.oldest_at,
        },
        provider: provider_view(topic, counts.state),
    }
}

/// State of a topic's provider.
pub(in crate::api) fn provider_view(topic: &TopicSink, state: TopicState) -> ProviderView {
    let (state, error, since) = match state {
        TopicState::Idle => (ProviderStateName::Idle, None, None),
        TopicState::Up => (ProviderStateName::Up, None, None),
        TopicState::Down { error, since } => (ProviderStateName::Down, Some(error), Some(since)),
        TopicState::Paused => (ProviderStateName::Paused, None, None),
    };
    ProviderView {
        name: topic.provider.clone(),
        state,
        error,
        since,
    }
}
