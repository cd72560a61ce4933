//! Parquet for analysis: a row per sample.
//!
//! `labels` holds all labels but the name as JSON; those that most series have are columns as well. Nothing is skipped: a
//! marker that ends a series is a row with `stale` and no value, a native histogram is a row with `histogram` as JSON:
//! its buckets are named by the index of the exponential schema. Exemplars are no samples, and have no rows.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::{FormatError, Series, Written};
use crate::core::model::Millis;
use crate::core::remotewrite::decode::proto::Histogram;
use crate::core::remotewrite::decode::{self, Native};

/// The labels that have columns of their own.
pub const LABELS: [&str; 11] = [
    "job",
    "instance",
    "service",
    "span_name",
    "span_kind",
    "status_code",
    "client",
    "server",
    "connection_type",
    "le",
    "replay",
];
/// Rows of a row group: so many are in memory twice while they are written.
const GROUP: usize = 1 << 17;

/// Rows before they are written, column by column.
#[derive(Default)]
struct Rows {
    /// Row numbers at which the next series begins, with its texts.
    series: Vec<(usize, Texts)>,
    times: Vec<i64>,
    /// `None` for markers and native histograms.
    values: Vec<Option<f64>>,
    stale: Vec<bool>,
    histograms: Vec<Option<ByteArray>>,
}

/// The texts that all rows of a series share.
#[derive(Clone)]
struct Texts {
    tenant: ByteArray,
    metric: ByteArray,
    labels: ByteArray,
    columns: [Option<ByteArray>; LABELS.len()],
}

/// Writes the series of one window as a file.
///
/// # Errors
/// When `out` fails, or a native histogram breaks the rules.
pub fn write<W: Write + Send>(series: &[Series], out: W) -> Result<Written, FormatError> {
    let schema = Arc::new(parse_message_type(&schema())?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let (mut rows, mut written) = (Rows::default(), Written::default());
    for one in series {
        let texts = Texts::of(one);
        let mut next = |at, row: &dyn Fn(&mut Rows) -> Result<(), FormatError>| -> Result<(), FormatError> {
            rows.begin(at, &texts);
            row(&mut rows)?;
            if rows.times.len() >= GROUP { rows.flush(&mut file) } else { Ok(()) }
        };
        for (at, value) in &one.floats {
            next(*at, &|rows| {
                rows.float(*value);
                Ok(())
            })?;
        }
        for (at, histogram) in &one.histograms {
            next(*at, &|rows| rows.histogram(one, histogram))?;
        }
        written.series += 1;
        written.samples += one.samples();
        written.exemplars_left += one.exemplars.len() as u64;
    }
    rows.flush(&mut file)?;
    file.close()?;
    Ok(written)
}

fn schema() -> String {
    let labels: String = LABELS.iter().map(|label| format!("optional binary {label} (UTF8);\n")).collect();
    format!(
        "message sample {{
            required binary tenant (UTF8);
            required binary metric (UTF8);
            {labels}
            required binary labels (JSON);
            required int64 timestamp (TIMESTAMP(MILLIS,true));
            optional double value;
            required boolean stale;
            optional binary histogram (JSON);
        }}"
    )
}

// === impl Texts ===

impl Texts {
    fn of(series: &Series) -> Self {
        let labels: BTreeMap<&str, &str> = series.rest().map(|l| (l.name.as_str(), l.value.as_str())).collect();
        let labels = serde_json::json!(labels).to_string();
        Self {
            tenant: text(&series.tenant),
            metric: text(series.name()),
            labels: text(&labels),
            columns: LABELS.map(|label| series.label(label).map(text)),
        }
    }
}

// === impl Rows ===

impl Rows {
    /// Begins a row of a series.
    fn begin(&mut self, at: Millis, texts: &Texts) {
        let same = self.series.last().is_some_and(|(_, last)| last.metric == texts.metric && last.same(texts));
        if !same {
            self.series.push((self.times.len(), texts.clone()));
        }
        self.times.push(at);
    }

    fn float(&mut self, value: f64) {
        let stale = decode::is_stale(value);
        self.stale.push(stale);
        self.values.push(Some(value).filter(|_| !stale));
        self.histograms.push(None);
    }

    fn histogram(&mut self, series: &Series, histogram: &Histogram) -> Result<(), FormatError> {
        let stale = decode::is_stale(histogram.sum);
        let json = if stale { None } else { Some(json(series, histogram)?) };
        self.stale.push(stale);
        self.values.push(None);
        self.histograms.push(json);
        Ok(())
    }

    fn flush<W: Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> Result<(), FormatError> {
        if self.times.is_empty() {
            return Ok(());
        }
        let mut group = file.next_row_group()?;
        self.texts(&mut group, |texts| Some(&texts.tenant), false)?;
        self.texts(&mut group, |texts| Some(&texts.metric), false)?;
        for i in 0..LABELS.len() {
            self.texts(&mut group, |texts| texts.columns[i].as_ref(), true)?;
        }
        self.texts(&mut group, |texts| Some(&texts.labels), false)?;
        column::<_, Int64Type>(&mut group, &self.times, None)?;
        optional::<_, DoubleType>(&mut group, &self.values)?;
        column::<_, BoolType>(&mut group, &self.stale, None)?;
        optional::<_, ByteArrayType>(&mut group, &self.histograms)?;
        group.close()?;
        *self = Self::default();
        Ok(())
    }

    /// Writes a column that is the same in all rows of a series.
    fn texts<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        of: impl Fn(&Texts) -> Option<&ByteArray>,
        is_optional: bool,
    ) -> Result<(), ParquetError> {
        let ends = self.series.iter().skip(1).map(|(at, _)| *at).chain([self.times.len()]);
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        for ((from, texts), to) in self.series.iter().zip(ends) {
            let text = of(texts);
            levels.extend(std::iter::repeat_n(i16::from(text.is_some()), to - from));
            values.extend(text.into_iter().flat_map(|text| std::iter::repeat_n(text.clone(), to - from)));
        }
        column::<_, ByteArrayType>(group, &values, is_optional.then_some(&levels))
    }
}

impl Texts {
    fn same(&self, other: &Self) -> bool {
        self.labels == other.labels && self.tenant == other.tenant
    }
}

fn optional<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[Option<T::T>],
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.iter().flatten().cloned().collect();
    column::<W, T>(group, &values, Some(&levels))
}

fn column<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&Vec<i16>>,
) -> Result<(), ParquetError> {
    let column = group.next_column()?;
    let mut column =
        column.ok_or_else(|| ParquetError::General("there are more columns than the schema has".into()))?;
    column.typed::<T>().write_batch(values, levels.map(Vec::as_slice), None)?;
    column.close()
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

/// A native histogram as JSON.
fn json(series: &Series, histogram: &Histogram) -> Result<ByteArray, FormatError> {
    let wrong = |why| FormatError::Histogram { series: decode::text(&series.labels), why };
    let native = Native::read(histogram).map_err(wrong)?;
    let buckets: BTreeMap<i32, f64> = native.buckets;
    let json = serde_json::json!({
        "schema": native.schema,
        "count": native.count,
        "sum": native.sum,
        "zero_count": native.zero,
        "zero_threshold": histogram.zero_threshold,
        "buckets": buckets,
    });
    Ok(text(&json.to_string()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::{Field, Row};

    use super::super::window::tests::labels;
    use super::*;
    use crate::core::remotewrite::decode::STALE_MARKER;
    use crate::core::remotewrite::decode::proto::BucketSpan;
    use crate::core::remotewrite::decode::proto::histogram::{Count, ZeroCount};

    fn series(pairs: &[(&str, &str)], floats: Vec<(i64, f64)>, histograms: Vec<(i64, Histogram)>) -> Series {
        Series { tenant: "t".into(), labels: labels(pairs), floats, histograms, exemplars: Vec::new() }
    }

    fn rows(series: &[Series]) -> Vec<Row> {
        let mut bytes = Vec::new();
        let written = write(series, &mut bytes).expect("rows can be written");
        let reader = SerializedFileReader::new(Bytes::from(bytes)).expect("a file");
        let rows: Vec<Row> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        assert_eq!(written.samples, rows.len() as u64);
        rows
    }

    fn field(row: &Row, name: &str) -> Field {
        row.get_column_iter().find(|(column, _)| *column == name).expect("a column").1.clone()
    }

    #[test]
    fn every_sample_is_a_row_with_the_labels_as_columns_and_as_json() {
        let stale = f64::from_bits(STALE_MARKER);
        let calls =
            series(&[("__name__", "calls_total"), ("service", "a"), ("x", "\"")], vec![(5, 1.5), (6, stale)], vec![]);
        let rows = rows(&[calls]);
        assert_eq!(field(&rows[0], "tenant"), Field::Str("t".into()));
        assert_eq!(field(&rows[0], "metric"), Field::Str("calls_total".into()));
        assert_eq!(field(&rows[0], "service"), Field::Str("a".into()));
        assert_eq!(field(&rows[0], "le"), Field::Null);
        assert_eq!(field(&rows[0], "labels").to_string(), field(&rows[1], "labels").to_string());
        assert!(field(&rows[0], "labels").to_string().contains(r#"{"service":"a","x":"\""}"#));
        assert_eq!(field(&rows[0], "timestamp"), Field::TimestampMillis(5));
        assert_eq!(field(&rows[0], "value"), Field::Double(1.5));
        assert_eq!((field(&rows[1], "value"), field(&rows[1], "stale")), (Field::Null, Field::Bool(true)));
    }

    #[test]
    fn a_native_histogram_is_a_row_with_its_buckets() {
        let histogram = Histogram {
            timestamp: 5,
            sum: 2.5,
            schema: 3,
            count: Some(Count::CountInt(4)),
            zero_count: Some(ZeroCount::ZeroCountInt(1)),
            positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
            positive_deltas: vec![1, 1],
            ..Histogram::default()
        };
        let rows = rows(&[series(&[("__name__", "latency")], vec![], vec![(5, histogram)])]);
        assert_eq!(field(&rows[0], "value"), Field::Null);
        let text = field(&rows[0], "histogram").to_string();
        assert!(text.contains(r#""buckets":{"-1":2.0,"-2":1.0}"#) && text.contains(r#""count":4.0"#), "{text}");
    }

    #[test]
    fn rows_are_cut_into_groups_without_losing_any() {
        let many = (0..GROUP as i64 + 10).map(|at| (at, at as f64)).collect();
        let rows = rows(&[series(&[("__name__", "a"), ("service", "s")], many, vec![]), {
            series(&[("__name__", "b")], vec![(1, 7.0)], vec![])
        }]);
        assert_eq!(field(&rows[GROUP], "value"), Field::Double(GROUP as f64));
        assert_eq!(field(&rows[GROUP + 9], "service"), Field::Str("s".into()));
        let last = &rows[GROUP + 10];
        assert_eq!((field(last, "metric"), field(last, "service")), (Field::Str("b".into()), Field::Null));
    }
}
