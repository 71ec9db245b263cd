//! Definitions of metrics: one table serves `/metrics`, the reference document and the tests.

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; restarts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of observations by bucket.
    Histogram,
}

impl MetricKind {
    /// The word of the Prometheus text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Definition of a metric. Its name carries the unit, by the Prometheus conventions.
#[derive(Clone, Copy, Debug)]
pub struct MetricDefinition {
    /// Full name.
    pub name: &'static str,
    /// Type.
    pub kind: MetricKind,
    /// Names of the labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl MetricDefinition {
    /// Defines a counter without labels.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Counter, name, help)
    }

    /// Defines a gauge without labels.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Gauge, name, help)
    }

    /// Defines a histogram without labels.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Histogram, name, help)
    }

    const fn new(kind: MetricKind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            labels: &[],
            help,
        }
    }

    /// Sets the label names.
    #[must_use]
    pub const fn labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }
}

/// Labels of series that belong to a project: they are shown to operators only.
pub const PROJECT_LABEL: &str = "project";

/// Labels of a sink's series.
pub const SINK_LABELS: &[&str] = &[PROJECT_LABEL, "branch", "source", "sink"];

/// A metric with its present values, for what is measured when it is read: series exist as long as
/// what they are about.
#[derive(Clone, Debug)]
pub struct MetricFamily {
    definition: &'static MetricDefinition,
    samples: Vec<MetricSample>,
}

#[derive(Clone, Debug)]
struct MetricSample {
    /// Suffix of the name, of histograms only.
    suffix: &'static str,
    /// `name="value"` pairs, escaped.
    labels: String,
    value: f64,
}

impl MetricFamily {
    /// A family without series.
    pub fn new(definition: &'static MetricDefinition) -> Self {
        Self {
            definition,
            samples: Vec::new(),
        }
    }

    /// Adds a series; `values` are those of the definition's labels.
    pub fn push(&mut self, values: &[&str], value: f64) {
        debug_assert_eq!(
            values.len(),
            self.definition.labels.len(),
            "one value a label"
        );
        self.samples.push(MetricSample {
            suffix: "",
            labels: self.label_text(values),
            value,
        });
    }

    /// Adds a histogram: upper bounds in seconds with the counts of their buckets; the last bucket
    /// has no bound.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
    pub fn push_histogram(
        &mut self,
        values: &[&str],
        buckets: &[(f64, u64)],
        count: u64,
        sum: f64,
    ) {
        let labels = self.label_text(values);
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, in_bucket) in buckets {
            below += in_bucket;
            self.samples.push(MetricSample {
                suffix: "_bucket",
                labels: format!("{labels}{comma}le=\"{bound}\""),
                value: below as f64,
            });
        }
        let mut total = |suffix, labels: String, value| {
            self.samples.push(MetricSample {
                suffix,
                labels,
                value,
            });
        };
        total(
            "_bucket",
            format!("{labels}{comma}le=\"+Inf\""),
            count as f64,
        );
        total("_sum", labels.clone(), sum);
        total("_count", labels, count as f64);
    }

    fn label_text(&self, values: &[&str]) -> String {
        let pairs = self.definition.labels.iter().zip(values);
        let pairs = pairs.map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name}=\"{}\"", value.replace('\n', "\\n"))
        });
        pairs.collect::<Vec<_>>().join(",")
    }

    /// Appends the family in the Prometheus text format.
    pub fn write_text(&self, text: &mut String) {
        let MetricDefinition {
            name, kind, help, ..
        } = self.definition;
        let kind = kind.name();
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for MetricSample {
            suffix,
            labels,
            value,
        } in &self.samples
        {
            let labels = match labels.as_str() {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            text.push_str(&format!("{name}{suffix}{labels} {value}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_in_the_text_format() {
        const PENDING: MetricDefinition =
            MetricDefinition::gauge("a_pending_bytes", "Bytes.").labels(&["source", "sink"]);
        const SYNC: MetricDefinition = MetricDefinition::histogram("a_sync_seconds", "Time.");
        let mut pending = MetricFamily::new(&PENDING);
        pending.push(&["s", "a\"b\\\n"], 1.5);
        let mut sync = MetricFamily::new(&SYNC);
        sync.push_histogram(&[], &[(0.001, 2), (0.01, 1)], 4, 0.5);
        let mut text = String::new();
        pending.write_text(&mut text);
        sync.write_text(&mut text);
        assert_eq!(
            text,
            "# HELP a_pending_bytes Bytes.\n# TYPE a_pending_bytes gauge\n\
             a_pending_bytes{source=\"s\",sink=\"a\\\"b\\\\\\n\"} 1.5\n\
             # HELP a_sync_seconds Time.\n# TYPE a_sync_seconds histogram\n\
             a_sync_seconds_bucket{le=\"0.001\"} 2\na_sync_seconds_bucket{le=\"0.01\"} 3\n\
             a_sync_seconds_bucket{le=\"+Inf\"} 4\na_sync_seconds_sum 0.5\na_sync_seconds_count 4\n"
        );
    }
}
