//! A configuration while it is being filled: one slot per key, and the keys that form one typed setting together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::endpoints::EndpointDraft;
use super::items::Items;
use super::preset::GraphPreset;
use super::settings::{
    Auth, Config, FileFormat, GroupProtocol, LogFormat, OnBacklog, OutputType, Protocol, Secret, SendExemplars, Start,
    TenantSource, Tls, WorkerStage,
};
use super::tokens::TokenEndpoint;
use crate::core::model::Millis;
use crate::core::remotewrite::relabel::RelabelAction;
use crate::core::settings::{
    Ancestors, Encoding, HistogramMode, InvalidUtf8, LatencySides, LatencyUnit, MatchType, Profile, SINGLE_TENANT,
    SanitizeMode, ServiceNamespace, TimeSource,
};

/// The values of the keys so far. `config` holds the settings that a single key determines.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) tenant: Tenant,
    pub(super) auth: AuthKeys,
    /// `admin.token`
    pub(super) admin_token: Secret,
    /// `admin.token_file`
    pub(super) admin_token_file: Option<PathBuf>,
    /// `time.step`
    pub(super) step: Millis,
    /// Whether `series.zero_offset` follows `time.step` unless it is set.
    pub(super) zero_follows_step: bool,
    /// `service_graphs.preset`
    pub(super) preset: GraphPreset,
    /// `worker.threads`; 0 means the number of cores.
    pub(super) threads: usize,
    /// `remote_write.on_status`
    pub(super) on_status: BTreeMap<String, String>,
    /// The further endpoints, if `remote_write` is a list of several.
    pub(super) more: Vec<EndpointDraft>,
}

/// `tenant:`
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) source: TenantFrom,
    pub(super) name: String,
    pub(super) header: String,
    pub(super) attribute: String,
}

/// `remote_write.auth:`; empty text means not set.
#[derive(Debug, Clone)]
pub(super) struct AuthKeys {
    pub(super) kind: AuthType,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) password_file: Option<PathBuf>,
    pub(super) token: Secret,
    pub(super) token_file: Option<PathBuf>,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) profile: String,
    pub(super) role_arn: String,
    pub(super) oauth2: OAuth2Keys,
}

/// `remote_write.auth.oauth2:`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OAuth2Keys {
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) token_url: String,
    pub(super) scopes: Vec<String>,
    pub(super) endpoint_params: BTreeMap<String, String>,
    pub(super) tls: Tls,
}

/// `tenant.source`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TenantFrom {
    Static,
    Key,
    Header,
    Topic,
    Attribute,
}

/// `remote_write.auth.type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthType {
    None,
    Basic,
    Bearer,
    SigV4,
    OAuth2,
}

/// The place in a [`Draft`] that a key fills, which also determines how its text is read.
pub(super) enum DraftField<'a> {
    Text(&'a mut String),
    Path(&'a mut Option<PathBuf>),
    Secret(&'a mut Secret),
    Bool(&'a mut bool),
    Choice(&'a mut dyn Choice),
    Whole(&'a mut dyn Whole, RangeInclusive<i64>),
    /// A number above the first and up to the second.
    Fraction(&'a mut f64, f64, f64),
    /// Bytes.
    Size(&'a mut usize, RangeInclusive<i64>),
    Duration(&'a mut Millis, RangeInclusive<Millis>),
    /// Histogram bounds in nanoseconds.
    Buckets(&'a mut Vec<u64>),
    List(&'a mut Vec<String>),
    /// A list of items with fields.
    Items(&'a mut dyn Items),
    Labels(&'a mut BTreeMap<String, String>),
    Secrets(&'a mut BTreeMap<String, Secret>),
}

/// One of a few words.
pub(super) trait Choice {
    /// The words.
    fn words(&self) -> &'static [&'static str];
    /// The chosen one.
    fn word(&self) -> &'static str;
    /// Chooses; false if it is not one of the words.
    fn choose(&mut self, word: &str) -> bool;
}

/// A whole number of some width.
pub(super) trait Whole {
    /// The number.
    fn get(&self) -> i64;
    /// Sets it; false if it does not fit.
    fn set(&mut self, value: i64) -> bool;
}

macro_rules! choice {
    ($type:ty { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl Choice for $type {
            fn words(&self) -> &'static [&'static str] {
                &[$($word),+]
            }
            fn word(&self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            fn choose(&mut self, word: &str) -> bool {
                match word { $($word => *self = Self::$variant,)+ _ => return false }
                true
            }
        }
    };
}

choice!(Encoding {
    "auto" => Auto,
    "otlp_proto" => OtlpProto,
    "otlp_json" => OtlpJson,
    "tempo_push_bytes" => TempoPushBytes,
    "jaeger_proto" => JaegerProto,
    "jaeger_json" => JaegerJson,
    "zipkin_proto" => ZipkinProto,
    "zipkin_json" => ZipkinJson,
});
choice!(GroupProtocol { "classic" => Classic, "consumer" => Consumer });
choice!(WorkerStage { "both" => Both, "spans" => Spans, "series" => Series });
choice!(Start { "earliest" => Earliest, "latest" => Latest });
choice!(TimeSource { "record" => Record, "span_end" => SpanEnd });
choice!(TenantFrom { "static" => Static, "key" => Key, "header" => Header, "topic" => Topic, "attribute" => Attribute });
choice!(AuthType {
    "none" => None, "basic" => Basic, "bearer" => Bearer, "sigv4" => SigV4,
    "oauth2" => OAuth2,
});
choice!(Profile { "tempo" => Tempo, "otel" => Otel });
choice!(InvalidUtf8 { "drop" => Drop, "replace" => Replace });
choice!(LatencyUnit { "ms" => Milliseconds, "s" => Seconds });
choice!(HistogramMode { "classic" => Classic, "native" => Native, "both" => Both });
choice!(SanitizeMode { "off" => Off, "dry_run" => DryRun, "enabled" => Enabled });
choice!(MatchType { "strict" => Strict, "regex" => Regex });
choice!(GraphPreset { "tempo" => Tempo, "recommended" => Recommended });
choice!(LatencySides { "both" => Both, "client" => Client, "server" => Server });
choice!(ServiceNamespace { "off" => Off, "labels" => Labels, "name" => Name });
choice!(SendExemplars { "auto" => Auto, "on" => On, "off" => Off });
choice!(OnBacklog { "wait" => Wait, "drop" => Drop });
choice!(OutputType {
    "remote_write" => RemoteWrite,
    "otlp_http" => OtlpHttp,
    "otlp_grpc" => OtlpGrpc,
    "kafka" => Kafka,
    "file" => File,
});
choice!(FileFormat { "json" => Json, "proto" => Proto });
choice!(Protocol { "auto" => Auto, "1.0" => V1, "2.0" => V2 });
choice!(RelabelAction {
    "replace" => Replace,
    "keep" => Keep,
    "drop" => Drop,
    "keepequal" => KeepEqual,
    "dropequal" => DropEqual,
    "hashmod" => HashMod,
    "labelmap" => LabelMap,
    "labeldrop" => LabelDrop,
    "labelkeep" => LabelKeep,
    "lowercase" => Lowercase,
    "uppercase" => Uppercase,
});
choice!(LogFormat { "text" => Text, "json" => Json });

/// The words of `service_graphs.ancestors`, the one that is shown first of those that mean the same: it was a switch.
const ANCESTORS: [(&str, Ancestors); 5] = [
    ("false", Ancestors::Off),
    ("true", Ancestors::Client),
    ("any", Ancestors::Any),
    ("off", Ancestors::Off),
    ("client", Ancestors::Client),
];

impl Choice for Ancestors {
    fn words(&self) -> &'static [&'static str] {
        const { &[ANCESTORS[0].0, ANCESTORS[1].0, ANCESTORS[2].0, ANCESTORS[3].0, ANCESTORS[4].0] }
    }

    fn word(&self) -> &'static str {
        ANCESTORS.iter().find(|(_, level)| level == self).map_or("false", |(word, _)| word)
    }

    fn choose(&mut self, word: &str) -> bool {
        let level = ANCESTORS.iter().find(|(known, _)| *known == word);
        level.map(|(_, level)| *self = *level).is_some()
    }
}

macro_rules! whole {
    ($($type:ty),+) => { $(
        impl Whole for $type {
            fn get(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }
            fn set(&mut self, value: i64) -> bool {
                <$type>::try_from(value).map(|value| *self = value).is_ok()
            }
        }
    )+ };
}

whole!(u16, u32, u64, i32, usize);

// === impl Draft ===

impl Draft {
    /// The values of the keys that would produce these settings.
    pub(super) fn of(config: &Config) -> Self {
        let (source, name, text) = match &config.tenant {
            TenantSource::Static(name) => (TenantFrom::Static, name.as_str(), ""),
            TenantSource::Key => (TenantFrom::Key, SINGLE_TENANT, ""),
            TenantSource::Header(header) => (TenantFrom::Header, SINGLE_TENANT, header.as_str()),
            TenantSource::Topic => (TenantFrom::Topic, SINGLE_TENANT, ""),
            TenantSource::Attribute { key, fallback } => (TenantFrom::Attribute, fallback.as_str(), key.as_str()),
        };
        let text_of = |of| if source == of { text.to_owned() } else { String::new() };
        Self {
            tenant: Tenant {
                source,
                name: name.to_owned(),
                header: text_of(TenantFrom::Header),
                attribute: text_of(TenantFrom::Attribute),
            },
            auth: AuthKeys::of(&config.remote_write.auth),
            admin_token: config.admin.token.clone(),
            admin_token_file: None,
            step: config.core.time.step.ms(),
            preset: GraphPreset::of(&config.core.service_graphs),
            zero_follows_step: config.core.series.zero_offset == config.core.time.step.ms() - 1,
            threads: config.worker.threads,
            on_status: super::statuses::shown(&config.remote_write.on_status),
            more: config.more_endpoints.iter().map(EndpointDraft::of).collect(),
            config: config.clone(),
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        let mut draft = Self::of(&Config::default());
        // Not the number of cores of the present machine.
        draft.threads = 0;
        draft
    }
}

impl AuthKeys {
    pub(super) fn of(auth: &Auth) -> Self {
        let mut keys = Self::default();
        match auth {
            Auth::None => {}
            Auth::Basic { username, password } => {
                keys.kind = AuthType::Basic;
                keys.username.clone_from(username);
                keys.password.clone_from(password);
            }
            Auth::Bearer(token) => {
                keys.kind = AuthType::Bearer;
                keys.token.clone_from(token);
            }
            Auth::OAuth2(endpoint) => {
                keys.kind = AuthType::OAuth2;
                keys.oauth2 = OAuth2Keys::of(endpoint);
            }
            Auth::SigV4 { region, service, profile, role_arn } => {
                keys.kind = AuthType::SigV4;
                keys.region.clone_from(region);
                keys.service.clone_from(service);
                keys.profile = profile.clone().unwrap_or_default();
                keys.role_arn = role_arn.clone().unwrap_or_default();
            }
        }
        keys
    }
}

impl Default for AuthKeys {
    fn default() -> Self {
        Self {
            kind: AuthType::None,
            username: String::new(),
            password: Secret::default(),
            password_file: None,
            token: Secret::default(),
            token_file: None,
            region: String::new(),
            service: "aps".to_owned(),
            profile: String::new(),
            role_arn: String::new(),
            oauth2: OAuth2Keys::default(),
        }
    }
}

impl OAuth2Keys {
    fn of(endpoint: &TokenEndpoint) -> Self {
        let TokenEndpoint { url, client_id, client_secret, scope, params, tls } = endpoint.clone();
        Self {
            client_id,
            client_secret,
            client_secret_file: None,
            token_url: url,
            scopes: scope.split_whitespace().map(str::to_owned).collect(),
            endpoint_params: params.into_iter().collect(),
            tls,
        }
    }
}
