//! Rules about combinations of values and about their environment; then the finished settings.

use super::draft::{AuthType, Draft, TenantFrom};
use super::layers::Layers;
use super::problem::{Location, quoted};
use super::read::{readable, secret_file};
use super::settings::{Auth, Config, GroupProtocol, Secret, TenantSource, Tls};
use super::syntax;
use super::topics;
use super::value::show_duration;
use super::{properties, tokens};
use crate::core::model::StepWidth;
use crate::core::settings::{SINGLE_TENANT, Time, TimeSource};

/// The minimum memory limit: even an idle worker needs some memory.
const LEAST_MEMORY: usize = 64 << 20;

// === impl Layers ===

impl Layers<'_> {
    /// Applies every rule. Rules about a value that could not be read are skipped: one mistake, one problem.
    /// Returns the authentication, for which files are read.
    pub(super) fn check(&mut self) -> Auth {
        self.follow_step();
        self.follow_preset();
        let draft = self.draft.clone();
        self.check_kafka(&draft);
        self.check_tenant(&draft);
        self.check_time(&draft);
        self.check_work(&draft);
        self.check_processors(&draft);
        self.check_series(&draft);
        self.check_process(&draft);
        self.check_overrides(&draft);
        self.check_admin(&draft);
        self.check_endpoints()
    }

    /// Sets a default that depends on another key.
    fn follow_step(&mut self) {
        const PATH: &str = "series.zero_offset";
        let given = self.places.contains_key(PATH) || self.unread.contains(PATH);
        if self.draft.zero_follows_step && !given && !self.unread.contains("time.step") {
            self.draft.config.core.series.zero_offset = self.draft.step - 1;
        }
    }

    /// Sets the keys that the preset of service graphs covers, unless they are set. A tenant without a preset of its
    /// own keeps its earlier values.
    fn follow_preset(&mut self) {
        const PRESET: &str = "service_graphs.preset";
        if !self.places.contains_key(PRESET) {
            return;
        }
        let Self { draft, places, unread, .. } = self;
        let given = |path: &str| places.contains_key(path) || unread.contains(path);
        draft.preset.apply(&mut draft.config.core.service_graphs, given);
    }

    /// Records a broken rule about `path`, unless one of the keys it involves could not be read. It is reported where
    /// the first of them is set.
    pub(super) fn broken(&mut self, paths: &[&str], message: impl Into<String>) {
        if paths.iter().any(|path| self.unread.contains(*path)) {
            return;
        }
        let given = paths.iter().find_map(|path| self.places.get(*path).cloned().map(|place| (place, *path)));
        let (place, path) = given.unwrap_or((Location::WholeFile, paths.first().copied().unwrap_or_default()));
        self.problem(place, path, message);
    }

    /// Records the problem that a check of one value found.
    pub(super) fn must(&mut self, path: &str, found: Result<(), String>) {
        if let Err(message) = found {
            self.broken(&[path], message);
        }
    }

    fn check_kafka(&mut self, draft: &Draft) {
        let kafka = &draft.config.kafka;
        self.must("kafka.brokers", syntax::brokers(&kafka.brokers));
        self.must("kafka.group", syntax::group(&kafka.group));
        self.check_topics(draft);
        if kafka.replication == 0 {
            self.broken(&["kafka.replication"], "0 stores no copy; write -1 for the broker's default, or 1 and more");
        }
        self.check_dead_letters(draft);
        for (name, reason) in properties::problems(&kafka.properties) {
            self.broken(&[&format!("kafka.properties.{name}")], reason);
        }
        if kafka.group_protocol == GroupProtocol::Consumer {
            for (name, reason) in properties::of_brokers(&kafka.properties) {
                self.broken(&[&format!("kafka.properties.{name}")], reason);
            }
        }
        // A secret whose file cannot be read is not missing, too.
        if !self.problems.iter().any(|problem| problem.is_below("kafka.properties.sasl.oauthbearer.")) {
            for (name, reason) in tokens::problems(kafka) {
                self.broken(&[&format!("kafka.properties.{name}")], reason);
            }
        }
    }

    fn check_topics(&mut self, draft: &Draft) {
        let kafka = &draft.config.kafka;
        if kafka.topics.is_empty() {
            self.broken(&["kafka.topics"], "is empty; name at least one source topic");
        }
        if self.unread.contains("kafka.topics") {
            return;
        }
        for (i, topic) in kafka.topics.iter().enumerate() {
            let path = format!("kafka.topics[{i}]");
            self.must(&path, topics::entry(topic));
            if topics::is_expression(topic) {
                continue;
            }
            let read = if kafka.repartition { &syntax::by_trace_topic(&kafka.group, topic) } else { topic };
            self.must(&path, syntax::topic(topic).map_or(Ok(()), |()| syntax::journal(&kafka.group, read)));
            if syntax::is_internal_topic(topic, &kafka.group, &kafka.topics) {
                self.broken(&[&path, "kafka.group"], "is an internal topic of this group; name a source topic");
            }
        }
        if !self.unread.contains("kafka.topic_settings") {
            for (i, settings) in kafka.topic_settings.iter().enumerate() {
                if !kafka.can_read(settings) {
                    let message = format!("{} is no source topic; add it to kafka.topics", quoted(&settings.topic));
                    self.broken(&[&format!("kafka.topic_settings[{i}]")], message);
                }
            }
        }
    }

    /// A copy in a source topic would be read, refused and copied again, for ever.
    fn check_dead_letters(&mut self, draft: &Draft) {
        let (path, kafka) = ("kafka.dead_letter_topic", &draft.config.kafka);
        let topic = &kafka.dead_letter_topic;
        if topic.is_empty() {
            return;
        }
        self.must(path, syntax::topic(topic).map_err(|message| format!("{} {message}", quoted(topic))));
        if syntax::is_internal_topic(topic, &kafka.group, &kafka.topics) {
            self.broken(&[path, "kafka.group"], "is an internal topic of this group; name a topic of its own");
        }
        if kafka.topics.contains(topic) {
            self.broken(&[path, "kafka.topics"], "is a source topic; name a topic of its own");
        }
    }

    fn check_tenant(&mut self, draft: &Draft) {
        let tenant = &draft.tenant;
        let usual = Draft::default().tenant;
        let source = tenant.source;
        if matches!(source, TenantFrom::Static | TenantFrom::Attribute) {
            if tenant.name.is_empty() {
                self.broken(&["tenant.name"], "is empty; write the tenant, or `single-tenant` for none");
            }
            let carried = syntax::header_value(&tenant.name);
            self.must("tenant.name", carried);
        } else if tenant.name != usual.name {
            let message = "applies only to `source: static` or `source: attribute`; remove one of them";
            self.broken(&["tenant.name", "tenant.source"], message);
        }
        for (path, of, word, value, what) in [
            ("tenant.header", TenantFrom::Header, "header", &tenant.header, "the name of a record header"),
            ("tenant.attribute", TenantFrom::Attribute, "attribute", &tenant.attribute, "a resource attribute"),
        ] {
            if source == of && value.is_empty() {
                self.broken(&["tenant.source", path], format!("`{word}` needs `{path}`, {what}"));
            }
            if source != of && !value.is_empty() {
                let message = format!("applies only to `source: {word}`; remove one of them");
                self.broken(&[path, "tenant.source"], message);
            }
        }
    }

    fn check_time(&mut self, draft: &Draft) {
        let (time, usual) = (&draft.config.core.time, Time::default());
        if time.source == TimeSource::Record && time.lateness != usual.lateness {
            self.broken(&["time.lateness", "time.source"], "applies only to `source: span_end`; remove one of them");
        }
        // A commit holds each of its slots, which are an eighth of it.
        if (1..1_000).contains(&draft.config.core.duplicates.window) {
            self.broken(&["duplicates.window"], "is shorter than 1s; write 0s for none, or 1s to 1h");
        }
        if time.stall_grace < time.idle {
            self.broken(
                &["time.stall_grace", "time.idle"],
                at_least("time.stall_grace", time.stall_grace, "time.idle", time.idle),
            );
        }
    }

    fn check_series(&mut self, draft: &Draft) {
        let series = &draft.config.core.series;
        if series.forget_after < series.stale_after {
            self.broken(
                &["series.forget_after", "series.stale_after"],
                at_least("series.forget_after", series.forget_after, "series.stale_after", series.stale_after),
            );
        }
        if series.stale_after < draft.step {
            self.broken(
                &["series.stale_after", "time.step"],
                at_least("series.stale_after", series.stale_after, "time.step", draft.step),
            );
        }
        if series.zero_offset >= draft.step {
            let (offset, step) = (show_duration(series.zero_offset), show_duration(draft.step));
            let message = format!(
                "series.zero_offset ({offset}) must be below time.step ({step}); without it, it follows time.step"
            );
            self.broken(&["series.zero_offset", "time.step"], message);
        }
        self.check_series_of(draft);
    }

    pub(super) fn check_remote_write(&mut self, draft: &Draft) {
        let remote = &draft.config.remote_write;
        self.check_output(draft);
        if !remote.tenant_header.is_empty() {
            self.must("remote_write.tenant_header", syntax::header_name(&remote.tenant_header));
        }
        if remote.max_backoff < remote.min_backoff {
            self.broken(
                &["remote_write.max_backoff", "remote_write.min_backoff"],
                at_least(
                    "remote_write.max_backoff",
                    remote.max_backoff,
                    "remote_write.min_backoff",
                    remote.min_backoff,
                ),
            );
        }
        self.check_statuses(draft);
        self.check_sending(draft);
        let (cert, key) = ("remote_write.tls.cert_file", "remote_write.tls.key_file");
        self.check_identity("remote_write.tls", &remote.tls);
        for (path, file) in [
            ("remote_write.tls.ca_file", &remote.tls.ca_file),
            (cert, &remote.tls.cert_file),
            (key, &remote.tls.key_file),
        ] {
            let read = file.as_ref().map_or(Ok(()), |file| readable(file, self.read_file).map(|_| ()));
            self.must(path, read);
        }
    }

    /// A client certificate and its key belong together.
    pub(super) fn check_identity(&mut self, section: &str, tls: &Tls) {
        let (cert, key) = (&format!("{section}.cert_file"), &format!("{section}.key_file"));
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => self.broken(&[cert, key], "needs `key_file`, the private key of the certificate"),
            (None, Some(_)) => self.broken(&[key, cert], "needs `cert_file`, the certificate of the key"),
            _ => {}
        }
    }

    pub(super) fn check_headers(&mut self, draft: &Draft) {
        let remote = &draft.config.remote_write;
        let tenants = draft.tenant.source != TenantFrom::Static || draft.tenant.name != SINGLE_TENANT;
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in &remote.headers {
            let path = format!("remote_write.headers.{name}");
            let paths = [path.as_str()];
            let lower = name.to_ascii_lowercase();
            self.must(&path, syntax::header_name(name));
            self.must(&path, syntax::header_value(value.reveal()));
            if syntax::is_own_header(name, draft.auth.kind == AuthType::SigV4) {
                self.broken(&paths, "is set by spanmill; remove it");
            }
            if seen.contains(&lower) {
                self.broken(&paths, "appears twice, because header names ignore case; keep one");
            }
            if lower == "authorization" && draft.auth.kind != AuthType::None {
                self.broken(&[&path, "remote_write.auth.type"], "is set by `remote_write.auth` too; keep one");
            }
            if tenants && lower == remote.tenant_header.to_ascii_lowercase() {
                let message = "carries the tenant of every request (`remote_write.tenant_header`); remove one of them";
                self.broken(&[&path, "tenant.source", "tenant.name", "remote_write.tenant_header"], message);
            }
            seen.push(lower);
        }
    }

    /// The admin server: its address, its token, and its certificate.
    fn check_admin(&mut self, draft: &Draft) {
        let admin = &draft.config.admin;
        if !admin.listen.is_empty() {
            self.must("admin.listen", syntax::listen(&admin.listen));
        }
        let file = draft.admin_token_file.as_deref();
        if file.is_some() || !draft.admin_token.reveal().is_empty() {
            let token = self.secret("admin.token", &draft.admin_token, file);
            let sent = token.as_ref().is_none_or(|token| token.reveal().chars().all(|c| c.is_ascii_graphic()));
            if !sent {
                let path = if file.is_some() { "admin.token_file" } else { "admin.token" };
                self.broken(&[path], "has characters that a header cannot send; use visible ASCII without blanks");
            }
            self.draft.config.admin.token = token.unwrap_or_default();
        } else if admin.metrics_without_token {
            let message = "has no effect without `admin.token_file` or `admin.token`; remove it, or set one";
            self.broken(&["admin.metrics_without_token"], message);
        }
        let (cert, key) = ("admin.tls.cert_file", "admin.tls.key_file");
        match (&admin.tls.cert_file, &admin.tls.key_file) {
            (Some(_), None) => self.broken(&[cert, key], "needs `key_file`, the private key of the certificate"),
            (None, Some(_)) => self.broken(&[key, cert], "needs `cert_file`, the certificate of the key"),
            _ => {}
        }
        for (path, file) in [(cert, &admin.tls.cert_file), (key, &admin.tls.key_file)] {
            let read = file.as_ref().map_or(Ok(()), |file| readable(file, self.read_file).map(|_| ()));
            self.must(path, read);
        }
    }

    fn check_process(&mut self, draft: &Draft) {
        let traces = &draft.config.traces;
        if !traces.endpoint.is_empty() {
            self.must("telemetry.traces.endpoint", syntax::traces_url(&traces.endpoint));
        }
        for (name, value) in &traces.headers {
            let path = format!("telemetry.traces.headers.{name}");
            self.must(&path, syntax::header_name(name));
            self.must(&path, syntax::header_value(value.reveal()));
            if syntax::is_own_header(name, false) {
                self.broken(&[&path], "is set by spanmill; remove it");
            }
        }
        let limit = draft.config.worker.memory_limit;
        if (1..LEAST_MEMORY).contains(&limit) {
            let message = "must be at least 64MiB, or 0B for no limit";
            self.broken(&["worker.memory_limit"], message);
        }
        let level = &draft.config.log.level;
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        // A lone word that is no level would be taken as a module, and log nothing else.
        let lone = level.is_empty() || level.chars().all(|c| c.is_ascii_alphabetic());
        let filter = tracing_subscriber::EnvFilter::builder().parse(level);
        if (lone && !words.contains(&level.to_ascii_lowercase().as_str())) || filter.is_err() {
            let message = format!(
                "{} is not a log level; use one of {}, or `warn,spanmill=debug`",
                quoted(level),
                words.join(", ")
            );
            self.broken(&["log.level"], message);
        }
    }

    fn check_overrides(&mut self, draft: &Draft) {
        let path = "overrides.file";
        if let Some(file) = &draft.config.overrides.file {
            match readable(file, self.read_file) {
                Ok(text) => self.overrides = Some(text),
                Err(message) => self.broken(&[path], message),
            }
        }
    }

    /// A secret from its key or from the file that stands in for it; `None` was recorded as a problem.
    pub(super) fn secret(&mut self, path: &str, value: &Secret, file: Option<&std::path::Path>) -> Option<Secret> {
        let file_path = format!("{path}_file");
        match (value.reveal().is_empty(), file) {
            (false, None) => Some(value.clone()),
            (true, Some(file)) => match secret_file(file, self.read_file) {
                Ok(secret) => Some(secret),
                Err(message) => {
                    self.broken(&[&file_path], message);
                    None
                }
            },
            (false, Some(_)) => {
                self.broken(&[path, &file_path], format!("`{file_path}` is set too; keep one"));
                None
            }
            (true, None) => {
                self.broken(&["remote_write.auth.type", path, &file_path], format!("needs `{file_path}`, or `{path}`"));
                None
            }
        }
    }

    /// The settings, if nothing is wrong with them.
    pub(super) fn finish(&self, auth: Auth) -> Config {
        let draft = self.draft.clone();
        let mut config = draft.config;
        config.core.time.step = StepWidth::new(draft.step).unwrap_or(config.core.time.step);
        config.tenant = match draft.tenant.source {
            TenantFrom::Static => TenantSource::Static(draft.tenant.name),
            TenantFrom::Key => TenantSource::Key,
            TenantFrom::Header => TenantSource::Header(draft.tenant.header),
            TenantFrom::Topic => TenantSource::Topic,
            TenantFrom::Attribute => {
                TenantSource::Attribute { key: draft.tenant.attribute, fallback: draft.tenant.name }
            }
        };
        config.remote_write.auth = auth;
        config.remote_write.on_status = super::statuses::typed(&draft.on_status);
        config.more_endpoints = super::endpoints::finished(&draft.more);
        super::outputs::complete(&mut config);
        if draft.threads > 0 {
            config.worker.threads = draft.threads;
        }
        config
    }
}

/// The message about a duration that is too short relative to another.
pub(super) fn at_least(path: &str, value: i64, other: &str, least: i64) -> String {
    let (value, least) = (show_duration(value), show_duration(least));
    format!("{path} ({value}) must be at least {other} ({least})")
}
