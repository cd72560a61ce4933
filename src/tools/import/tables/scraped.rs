//! The Collector's exporter that Prometheus scrapes. It decides names and labels as the one for remote write does.

use super::exporter::{NAMES, PROMOTE, SCOPE};
use crate::tools::import::collector::exporter_namespace;
use crate::tools::import::table::How::{By, Labels, Nothing};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, absent, case, key, none};

const SCRAPED: &str = "samples are sent, not scraped";

/// `prometheus`.
pub(in crate::tools::import) const SCRAPED_EXPORTER: Table = Table {
    name: "Collector: exporter prometheus",
    root: "exporters.prometheus",
    rows: &[
        none(
            "endpoint",
            Different("samples are sent, not scraped: set a receiver in remote_write.url, and end the scraping"),
        ),
        key(
            "namespace",
            By(exporter_namespace),
            "naming.namespace",
            Different("prefixes span metrics only: edges keep the names that Grafana reads, and target_info its own"),
        ),
        key("const_labels", Labels, "series.external_labels", Different("target_info has them, too")),
        none("send_timestamps", Better("samples have the time of their step")),
        none(
            "metric_expiration",
            Different("it never ends a series there, since the connectors repeat all of them; series.stale_after does"),
        ),
        none("resource_to_telemetry_conversion.enabled", Refused(PROMOTE)),
        case("resource_to_telemetry_conversion.enabled", "false", Nothing, "", Same),
        none("resource_to_telemetry_conversion.exclude_service_attributes", Ignored("it belongs to the conversion")),
        none("resource_constant_labels.**", Refused(PROMOTE)),
        none("enable_open_metrics", Ignored("remote write carries exemplars")),
        none("add_metric_suffixes", Refused(NAMES)),
        case("add_metric_suffixes", "true", Nothing, "", Same),
        none("translation_strategy", Refused(NAMES)),
        case("translation_strategy", "UnderscoreEscapingWithSuffixes", Nothing, "", Same),
        none("without_scope_info", Different(SCOPE)),
        case("without_scope_info", "true", Nothing, "", Same),
        absent("without_scope_info", "", "", Different(SCOPE)),
        none("tls.**", Ignored(SCRAPED)),
        none("auth.**", Ignored(SCRAPED)),
        none("cors.**", Ignored(SCRAPED)),
        none("max_request_body_size", Ignored(SCRAPED)),
        none("include_metadata", Ignored(SCRAPED)),
        none("response_headers.**", Ignored(SCRAPED)),
        none("compression_algorithms.**", Ignored(SCRAPED)),
        none("read_timeout", Ignored(SCRAPED)),
        none("read_header_timeout", Ignored(SCRAPED)),
        none("write_timeout", Ignored(SCRAPED)),
        none("idle_timeout", Ignored(SCRAPED)),
        none("keep_alives_enabled", Ignored(SCRAPED)),
    ],
};
