use std::io;
use std::path::Path;

use super::super::settings::{Auth, Secret};
use super::super::{Config, Loaded, Problems, Sources, Tenants, ValueOrigin, load, load_overrides, render_effective};
use crate::core::settings::{HistogramMode, Profile};

const ACME: &str = "tenants: {acme: {limits: {max_active_series: 7}}}\n";

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/secret") => Ok("hunter2\n".to_owned()),
        Some("/overrides") => Ok(ACME.to_owned()),
        Some("/broken") => Ok("tenants:\n  acme: {limits: {max_series: 7}}\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn main_file(text: &str) -> Result<Loaded, Problems> {
    load(&Sources { file: Some(("main.yaml", text)), env: &[], set: &[], read_file: &read_file })
}

fn defaults(text: &str) -> Config {
    main_file(text).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn over(main: &str, overrides: &str) -> Tenants {
    load_overrides(&defaults(main), overrides, "o.yaml", &read_file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(main: &str, overrides: &str) -> String {
    load_overrides(&defaults(main), overrides, "o.yaml", &read_file).expect_err("something is wrong").to_string()
}

#[test]
fn a_tenant_inherits_what_it_does_not_name() {
    let main = "span_metrics: {dimensions: [a], intrinsic_dimensions: {span_kind: false}}\ntime: {step: 30s}\n";
    let tenants = over(main, "tenants: {acme: {span_metrics: {intrinsic_dimensions: {service: false}}}, umbrella: {}}");
    let mut expected = defaults(main);
    expected.core.span_metrics.intrinsic.service = false;
    assert_eq!(**tenants.of("acme"), expected);
    assert_eq!(**tenants.of("umbrella"), defaults(main));
    assert_eq!(**tenants.of("somebody"), defaults(main));
    assert_eq!(tenants.overridden().map(|(name, _)| name).collect::<Vec<_>>(), ["acme", "umbrella"]);
}

#[test]
fn a_list_is_replaced_and_a_map_is_layered_entry_by_entry() {
    let main = "span_metrics: {dimensions: [a, b]}\nseries: {external_labels: {cluster: x, zone: z}}\n\
                remote_write: {headers: {X-A: a, X-B: b}}\n";
    let file = "tenants: {acme: {span_metrics: {dimensions: [c]}, \
                series: {external_labels: {cluster: '', zone: y, team: t}}, remote_write: {headers: {X-A: ''}}}}";
    let config = over(main, file).of("acme").clone();
    let names: Vec<_> = config.core.span_metrics.dimensions.iter().map(|dimension| dimension.name.as_str()).collect();
    assert_eq!(names, ["c"]);
    let labels: Vec<_> = config.core.series.external_labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("team", "t"), ("zone", "y")]);
    assert_eq!(config.remote_write.headers.keys().collect::<Vec<_>>(), ["X-B"]);
}

#[test]
fn another_kind_of_authentication_replaces_the_inherited_one_and_the_same_kind_refines_it() {
    let main = "remote_write: {auth: {type: basic, username: me, password: old}}\n";
    let auth = |file: &str| over(main, file).of("acme").remote_write.auth.clone();
    assert_eq!(
        auth("tenants: {acme: {remote_write: {auth: {token_file: /secret, type: bearer}}}}"),
        Auth::Bearer(Secret::of_file("hunter2", "/secret"))
    );
    assert_eq!(auth("tenants: {acme: {remote_write: {auth: {type: none}}}}"), Auth::None);
    assert_eq!(
        auth("tenants: {acme: {remote_write: {auth: {username: you}}}}"),
        Auth::Basic { username: "you".to_owned(), password: Secret::new("old") }
    );
    assert_eq!(
        auth("tenants: {acme: {remote_write: {auth: {password_file: /secret}}}}"),
        Auth::Basic { username: "me".to_owned(), password: Secret::of_file("hunter2", "/secret") }
    );
    let text = wrong(main, "tenants: {acme: {remote_write: {auth: {token: hunter2}}}}");
    assert!(
        text.contains("applies only to `type: bearer`, but `type` is `basic`") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_rule_is_checked_for_each_tenant_with_what_it_inherits() {
    let main = "series: {external_labels: {job: a}}\n";
    assert_eq!(
        wrong(main, "tenants:\n  acme: {span_metrics: {enable_target_info: true}}\n  b: {series: {interval: 7s}}\n")
            .lines()
            .filter(|line| line.starts_with("o.yaml"))
            .collect::<Vec<_>>(),
        [
            "o.yaml:2:45: tenants.acme.span_metrics.enable_target_info: `job` is a label of spanmill's own with \
             `span_metrics.enable_target_info`; choose another name",
            "o.yaml:3:26: tenants.b.series.interval: series.interval (7s) must be a multiple of time.step (15s)",
        ]
    );
}

#[test]
fn the_main_file_brings_its_overrides_and_the_listing_shows_what_they_say() {
    let loaded = main_file("overrides: {file: /overrides}\n").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.tenants.of("acme").core.limits.max_active_series, 7);
    assert_eq!(**loaded.tenants.defaults(), loaded.config);
    let [only] = loaded.overridden.as_slice() else { panic!("{:?}", loaded.overridden) };
    assert_eq!((only.path.as_str(), only.value.as_str()), ("tenants.acme.limits.max_active_series", "7"));
    assert_eq!(only.origin, ValueOrigin::File { name: "/overrides".to_owned(), line: 1 });
    let text = render_effective(&loaded);
    assert!(text.ends_with("\n\ntenants.acme.limits.max_active_series = 7   # /overrides:1\n"), "{text}");
}

#[test]
fn a_mistake_in_the_overrides_or_a_missing_file_is_a_problem_of_the_configuration() {
    let text = |main: &str| main_file(main).expect_err("it cannot load").to_string();
    assert!(text("overrides: {file: /broken}\n").starts_with("/broken:2:19: tenants.acme.limits.max_series: unknown"));
    assert!(text("overrides: {file: /nowhere}\n").starts_with("main.yaml:1:19: overrides.file: cannot read"));
}

#[test]
fn an_entry_that_was_taken_away_is_listed_and_secrets_are_not_shown() {
    let main = defaults("series: {external_labels: {zone: z}}\n");
    let file = "tenants: {acme: {series: {external_labels: {zone: ''}}, remote_write: {headers: {X-Key: hunter2}}}}";
    let (_, said) = super::read(&main, file, "o.yaml", &read_file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut said: Vec<_> = said.iter().map(|one| (one.path.as_str(), one.value.as_str())).collect();
    said.sort_unstable();
    assert!(said.contains(&("tenants.acme.series.external_labels.zone", "\"\"")), "{said:?}");
    assert!(said.contains(&("tenants.acme.remote_write.headers.X-Key", "***")), "{said:?}");
}

#[test]
fn settings_of_a_case_reach_their_tenant_and_a_global_key_is_refused() {
    let set = |path: &str, value: &str| {
        let flags = [("acme".to_owned(), format!("{path}={value}"))];
        super::set_over(&Tenants::from(Config::default()), &[], &flags).map_err(|problems| problems.to_string())
    };
    let tenants = set("naming.profile", "otel").expect("a key of tenants");
    assert_eq!(tenants.of("acme").core.naming.profile, Profile::Otel);
    assert_eq!(tenants.of("umbrella").core.naming.profile, Profile::Tempo);
    let tenants = set("histograms.mode", "both").expect("a key of tenants");
    assert_eq!(tenants.of("acme").core.histograms.mode, HistogramMode::Both);
    let refused = set("kafka.group", "x").expect_err("a global key");
    assert!(set("kafka.properties.client.id", "x").is_err());
    assert_eq!(refused, "--set: tenants.acme.kafka.group: applies to all tenants; write it in the main file");
}

#[test]
fn a_setting_of_a_case_reaches_everybody_and_leaves_what_tenants_have_of_their_own() {
    let base = over("", "tenants: {acme: {naming: {profile: otel}}}");
    let set = ["service_graphs.wait=5s".to_owned(), "limits.max_active_series=3".to_owned()];
    let flags = [("umbrella".to_owned(), "limits.max_active_series=4".to_owned())];
    let tenants = super::set_over(&base, &set, &flags).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(tenants.of("acme").core.naming.profile, Profile::Otel);
    let limits: Vec<_> = ["acme", "umbrella", "x"].map(|t| tenants.of(t).core.limits.max_active_series).to_vec();
    assert_eq!(limits, [3, 4, 3]);
    assert_eq!(tenants.of("acme").core.service_graphs.wait, 5_000);
    let wrong = super::set_over(&base, &["time.step=15".to_owned()], &[]).expect_err("no unit").to_string();
    assert_eq!(wrong, "--set: time.step: `15` has no unit; write `15s` or `15ms`");
}

#[test]
fn a_tenant_can_be_switched_off_and_only_some_can_be_switched_on() {
    let off = "span_metrics: {enabled: false}, service_graphs: {enabled: false}";
    let tenants = over("", &format!("tenants: {{acme: {{{off}}}}}"));
    assert!(!tenants.of("acme").core.span_metrics.enabled && tenants.of("umbrella").core.span_metrics.enabled);
    let main = format!("{{{off}, overrides: {{file: /overrides}}}}");
    assert!(main_file(&main).is_ok_and(|loaded| !loaded.config.core.span_metrics.enabled));
    assert!(main_file(&format!("{{{off}}}")).is_err());
}
