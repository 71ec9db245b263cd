//! Metrics in the Prometheus text format as OTLP metrics.
//!
//! The text is the one place where all metrics are together: those of the recorder, and those that are
//! measured when they are read. Names stay as they are, so that dashboards and alerts fit both ways.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_sdk::Resource;

/// Converts all metrics.
pub(super) fn request(
    text: &str,
    resource: &Resource,
    started_ns: u64,
    now_ns: u64,
) -> ExportMetricsServiceRequest {
    let times = (started_ns, now_ns);
    let metrics = families(text)
        .into_iter()
        .map(|family| family.into_metric(times))
        .collect();
    let scope = InstrumentationScope {
        name: "forebay".to_owned(),
        version: crate::version::VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.into()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// Labels in the order of the text.
type Labels = Vec<(String, String)>;

/// A metric with its samples: suffix of the name, labels, value.
#[derive(Debug, Default)]
struct MetricFamily<'t> {
    name: &'t str,
    help: &'t str,
    kind: &'t str,
    samples: Vec<(&'t str, Labels, f64)>,
}

/// Reads the text format.
fn families(text: &str) -> Vec<MetricFamily<'_>> {
    let mut families: Vec<MetricFamily<'_>> = Vec::new();
    let mut help = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap_or((rest, ""));
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            families.push(MetricFamily {
                name,
                help: if help.0 == name { help.1 } else { "" },
                kind,
                samples: Vec::new(),
            });
        } else if let Some((name, labels, value)) = sample(line)
            && let Some(family) = families.last_mut()
            && let Some(suffix) = name.strip_prefix(family.name)
        {
            family.samples.push((suffix, labels, value));
        }
    }
    families
}

/// Reads a line `name{label="value"} number`.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series, Labels::new(), value));
    };
    Some((name, read_labels(labels.strip_suffix('}')?)?, value))
}

fn read_labels(mut text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        text = rest.get(end + 1..)?;
        text = text.strip_prefix(',').unwrap_or(text);
    }
    Some(labels)
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    let attribute = |(key, value)| KeyValue {
        key,
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..KeyValue::default()
    };
    labels.into_iter().map(attribute).collect()
}

/// Unit of a metric, in the UCUM code that OTLP prescribes.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        _ => "",
    }
}

impl MetricFamily<'_> {
    fn into_metric(self, times: (u64, u64)) -> Metric {
        let cumulative = AggregationTemporality::Cumulative as i32;
        let (name, help) = (self.name.to_owned(), self.help.to_owned());
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.into_numbers(times),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.into_histograms(times),
                aggregation_temporality: cumulative,
            }),
            _ => Data::Gauge(Gauge {
                data_points: self.into_numbers(times),
            }),
        };
        Metric {
            unit: unit(&name).to_owned(),
            name,
            description: help,
            data: Some(data),
            ..Metric::default()
        }
    }

    fn into_numbers(self, (start, now): (u64, u64)) -> Vec<NumberDataPoint> {
        let number = |(_, labels, value)| NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        self.samples.into_iter().map(number).collect()
    }

    /// Prometheus counts observations up to each bound, OTLP those between two bounds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the text format writes whole counts as floats"
    )]
    fn into_histograms(self, (start, now): (u64, u64)) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<Labels, HistogramDataPoint> = BTreeMap::new();
        for (suffix, mut labels, value) in self.samples {
            let bound = labels.iter().position(|(name, _)| name == "le");
            let bound = bound.map(|at| labels.remove(at).1);
            let point = points.entry(labels).or_default();
            match (suffix, bound.as_deref()) {
                ("_count", _) => point.count = value as u64,
                ("_sum", _) => point.sum = Some(value),
                ("_bucket", Some(bound)) => {
                    let below: u64 = point.bucket_counts.iter().sum();
                    point
                        .bucket_counts
                        .push((value as u64).saturating_sub(below));
                    let bound = bound.parse().ok().filter(|b: &f64| b.is_finite());
                    point.explicit_bounds.extend(bound);
                }
                _ => {}
            }
        }
        let finish = |(labels, point)| HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            ..point
        };
        points.into_iter().map(finish).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a_total Things, counted.
# TYPE a_total counter
a_total{status=\"200\",path=\"a\\\"b,\\\\{}\"} 3
a_total{status=\"500\"} 0

# TYPE b_bytes gauge
b_bytes 1.5
# HELP c_seconds Waits.
# TYPE c_seconds histogram
c_seconds_bucket{q=\"x\",le=\"0.5\"} 2
c_seconds_bucket{q=\"x\",le=\"1\"} 2
c_seconds_bucket{q=\"x\",le=\"+Inf\"} 5
c_seconds_sum{q=\"x\"} 9.25
c_seconds_count{q=\"x\"} 5
";

    fn metrics() -> Vec<Metric> {
        let request = request(TEXT, &Resource::builder_empty().build(), 1, 2);
        let mut all = request.resource_metrics;
        all.remove(0).scope_metrics.remove(0).metrics
    }

    #[test]
    fn counters_and_gauges_keep_names_labels_and_values() {
        let metrics = metrics();
        assert_eq!((&*metrics[0].name, &*metrics[0].unit), ("a_total", ""));
        assert_eq!(metrics[0].description, "Things, counted.");
        let Some(Data::Sum(sum)) = &metrics[0].data else {
            panic!("{metrics:?}")
        };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let [first, second] = &*sum.data_points else {
            panic!("{sum:?}")
        };
        assert_eq!(first.value, Some(Number::AsDouble(3.0)));
        assert_eq!((first.start_time_unix_nano, first.time_unix_nano), (1, 2));
        let path = first.attributes[1].value.clone().unwrap().value;
        assert_eq!(path, Some(Value::StringValue("a\"b,\\{}".to_owned())));
        assert_eq!(second.value, Some(Number::AsDouble(0.0)));
        let Some(Data::Gauge(gauge)) = &metrics[1].data else {
            panic!("{metrics:?}")
        };
        assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(1.5)));
        assert_eq!(metrics[1].unit, "By");
    }

    #[test]
    fn histograms_have_counts_between_their_bounds() {
        let metrics = metrics();
        let Some(Data::Histogram(histogram)) = &metrics[2].data else {
            panic!("{metrics:?}")
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [2, 0, 3]);
        assert_eq!(point.explicit_bounds, [0.5, 1.0]);
        assert_eq!((point.count, point.sum), (5, Some(9.25)));
        assert_eq!(metrics[2].unit, "s");
    }
}
