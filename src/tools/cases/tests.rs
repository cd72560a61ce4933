use super::*;

fn error(text: &str) -> String {
    Case::parse(text).expect_err("not a case").to_string()
}

#[test]
fn a_statement_that_does_not_hold_is_named_with_its_line() {
    let text =
        "at 1\nfrom shop\nserver get took=50ms\ntally spans_read 2\nexpect traces_spanmetrics_calls_total{a=\"b\"} 1\n";
    let report = Case::parse(text).expect("a case").run(Owners::One);
    assert_eq!(report.checks, 2);
    let lines: Vec<_> = report.failures.iter().map(|f| f.line).collect();
    assert_eq!(lines, [4, 5]);
    assert_eq!(report.failures[0].to_string(), "line 4: it is 1, not 2");
    assert!(report.failures[1].message.contains("span_name=\"get\""), "the real series is shown");
}

#[test]
fn a_line_outside_the_language_is_refused_with_its_number() {
    assert_eq!(error("# fine\n\nsing\n"), "line 3: sing is not a statement");
    assert!(error("server get").contains("below `at`"));
    assert!(error("scope jdbc").contains("below `at`"));
    assert!(error("at 1\nfrom shop\nevent x").contains("below its span"));
    assert!(error("at 1\nfrom shop\nserver get\nscope jdbc\nevent x").contains("below its span"));
    assert!(error("at 1\nscope a b c").contains("optionally a version"));
    assert!(error("at x").contains("is not a time"));
    assert!(error("at 1.2345").contains("milliseconds"));
    assert!(error("at 1\nserver get color=red").contains("color is not a field"));
    assert!(error("at 1\nserver get id=xyz").contains("is not an ID"));
    assert!(error("at 1\nserver get id=11223344556677889").contains("is not an ID"));
    assert!(error("at 1\nserver get took=5").contains("is not a duration"));
    assert!(error("at 1\nset service_graphs.wait 5s").contains("before all other statements"));
    assert!(error("at 1\noverride acme span_metrics.size false").contains("before all other statements"));
    assert!(error("override acme span_metrics.size maybe").contains("line 1: --set: tenants.acme.span_metrics.size"));
    assert!(error("override acme kafka.group x").contains("applies to all tenants"));
    assert!(error("override acme").contains("needs a tenant and a key"));
    assert!(error("set service_graphs.wait").contains("needs a key and a value"));
    assert!(error("set service_graphs.wait \"5s\" x").contains("one value"));
    assert!(error("again 1").contains("a record must come before"));
    assert!(error("tally nonsense 1").contains("no tally"));
    assert!(error("expect a{b=\"c\" 1").contains("brace") || error("expect a{b=\"c\" 1").contains("label"));
    assert!(error("expect a{b=\"c} 1").contains("quote"));
    assert!(error("at 1\nserver \"\\q\"").contains("after \\"));
}

#[test]
fn a_hand_over_that_changes_something_would_be_seen() {
    let text = "at 1\nfrom shop\nclient get id=7 took=50ms\nat 2\nfrom cart\nserver get parent=7 took=1ms\nexpect \
                traces_service_graph_request_total{client=\"shop\", server=\"cart\"} 1\npending 0";
    let case = Case::parse(text).expect("a case");
    for owners in [Owners::One, Owners::OneForEachRecord] {
        assert_eq!(case.run(owners), Report { checks: 2, failures: Vec::new() });
    }
}

#[test]
fn a_case_plays_under_the_settings_that_it_is_given() {
    let mut config = Config::default();
    config.core.span_metrics.enabled = false;
    config.tenant = crate::config::settings::TenantSource::Static("acme".to_owned());
    let base = Tenants::from(config);
    let text = "at 1\nfrom shop\nserver get\nabsent traces_spanmetrics_calls_total\ntenant acme\nabsent traces_spanmetrics_calls_total\n";
    let held = Case::parse_over(text, &base).expect("a case").run(Owners::One);
    assert_eq!(held, Report { checks: 2, failures: Vec::new() });
    let on = format!("set span_metrics.enabled true\n{text}");
    let lines: Vec<_> = Case::parse_over(&on, &base).expect("a case").run(Owners::One).failures;
    assert_eq!(lines.iter().map(|f| f.line).collect::<Vec<_>>(), [5, 7], "records without a tenant are acme's");
}
