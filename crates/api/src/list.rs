//! Lists that are returned in pages.

use crate::admin::{TokenList, TokenView};
use crate::aggregation::{AggregatedSink, AggregatedSource, AggregationResponse};
use crate::dead_letter::{DeadLetterList, DeadLetterSummary};
use crate::sink::{SinkList, SinkView};
use crate::source::{SourceList, SourceView};
use crate::table::{OwnedTable, TableOwners};

/// A page of a list, whose next page begins after the id of its last item.
pub trait PagedResponse {
    /// Item of the list.
    type Item;

    /// The items of the page.
    fn into_items(self) -> Vec<Self::Item>;

    /// The id of an item, which the parameter `afterId` of the next page names.
    fn item_id(item: &Self::Item) -> &str;
}

macro_rules! paged_responses {
    ($($list:ty { $items:ident: $item:ty, $($id:ident).+ })+) => {
        $(impl PagedResponse for $list {
            type Item = $item;

            fn into_items(self) -> Vec<Self::Item> {
                self.$items
            }

            fn item_id(item: &Self::Item) -> &str {
                &item.$($id).+
            }
        })+
    };
}

paged_responses! {
    SourceList { sources: SourceView, source_id }
    SinkList { sinks: SinkView, sink_id }
    AggregationResponse { sources: AggregatedSource, source.source_id }
    // One source with a page of its sinks.
    AggregatedSource { sinks: AggregatedSink, sink.sink_id }
    DeadLetterList { dead_letters: DeadLetterSummary, dead_letter_id }
    TokenList { tokens: TokenView, token_id }
    TableOwners { tables: OwnedTable, id }
}
