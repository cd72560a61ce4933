//! Names from the world, and properties of all names.

mod property;

use super::{Merge, SanitizeError, Sanitizer};
use crate::core::settings::{SanitizeMode, SpanNameRule, SpanNames};

fn sanitizer(builtin: bool, rules: &[(&str, &str)]) -> Result<Sanitizer, SanitizeError> {
    let rule = |&(pattern, replace): &(&str, &str)| SpanNameRule { pattern: pattern.into(), replace: replace.into() };
    Sanitizer::new(&SpanNames {
        mode: SanitizeMode::Enabled,
        builtin,
        rules: rules.iter().map(rule).collect(),
        ..SpanNames::default()
    })
}

fn builtin() -> Sanitizer {
    sanitizer(true, &[]).expect("no rules")
}

/// The pattern of a name.
fn pattern(sanitizer: &Sanitizer, name: &str) -> String {
    let mut out = b"left over".to_vec();
    if !sanitizer.apply(name.as_bytes(), &mut out) {
        return name.to_owned();
    }
    let out = String::from_utf8(out).expect("UTF-8");
    assert_ne!(out, name, "changed, they say");
    out
}

fn on_request() -> Sanitizer {
    let settings = SpanNames { query_strings: true, short_ids: true, ..SpanNames::default() };
    Sanitizer::new(&settings).expect("no rules")
}

#[test]
fn query_strings_and_short_ids_are_data_where_somebody_says_so() {
    let table = [
        ("GET /search?q=shoes&page=2", "GET /search?<_>", "GET /search?q=shoes&page=<_>"),
        ("GET /search?q=shoes HTTP/1.1", "GET /search?<_> HTTP/<_>", "GET /search?q=shoes HTTP/<_>"),
        ("GET https://api.example/a?b", "GET https://api.example/a?<_>", "GET https://api.example/a?b"),
        ("GET /a?", "GET /a?", "GET /a?"),
        ("GET /a?<_>", "GET /a?<_>", "GET /a?<_>"),
        ("GET /a?x=1&<_>", "GET /a?<_>", "GET /a?x=<_>&<_>"),
        ("GET /a?x=1 , 5%2", "GET /a?<_> , <_>%<_>", "GET /a?x=<_>%<_>"),
        ("is it done?no", "is it done?no", "is it done?no"),
        (
            "SELECT a/b FROM t WHERE c = ? AND d = 1",
            "SELECT a/b FROM t WHERE c = ? AND d = <_>",
            "SELECT a/b FROM t WHERE c = ? AND d = <_>",
        ),
        ("GET /s/k3x9Qa", "GET /s/<_>", "GET /s/k3x9Qa"),
        ("watch dQw4w9WgXcQ", "watch <_>", "watch dQw4w9WgXcQ"),
        ("job-lq2x8f0z-bcdfg", "job-<_>", "job-lq2x8f0z-bcdfg"),
        (
            "log4j2 GetS3Url v1p1beta1 utf8mb4 oauth2v1 h264 x86_64",
            "log4j2 GetS3Url v1p1beta1 utf8mb4 oauth2v1 h264 x86_<_>",
            "log4j2 GetS3Url v1p1beta1 utf8mb4 oauth2v1 h264 x86_<_>",
        ),
    ];
    let (with, without) = (on_request(), builtin());
    for (name, on, off) in table {
        assert_eq!((pattern(&with, name).as_str(), pattern(&without, name).as_str()), (on, off), "{name}");
    }
}

fn assert_patterns(table: &[(&str, &str)]) {
    let sanitizer = builtin();
    let wrong: Vec<_> = table.iter().map(|&(name, want)| (name, pattern(&sanitizer, name), want)).collect();
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, got, want)| got != want).collect();
    assert!(wrong.is_empty(), "name, got, wanted: {wrong:#?}");
}

#[test]
fn sequences_become_the_pattern_that_they_have_in_tempo() {
    assert_patterns(&[
        ("GET /api/users/123", "GET /api/users/<_>"),
        ("GET /api/users/789", "GET /api/users/<_>"),
        ("POST /api/orders/100/items/1", "POST /api/orders/<_>/items/<_>"),
        ("POST /api/orders/300/items/3", "POST /api/orders/<_>/items/<_>"),
        ("SELECT * FROM users_100", "SELECT * FROM users_<_>"),
        ("grpc.client/service.Method/123", "grpc.client/service.Method/<_>"),
        ("one name repeated", "one name repeated"),
    ]);
}

#[test]
fn names_without_data_stay() {
    let sanitizer = builtin();
    for name in [
        "",
        " ",
        "GET",
        "GET /",
        "HTTP GET",
        "GET /api/v2/users",
        "v1",
        "http2",
        "s3",
        "S3.PutObject",
        "oauth2",
        "utf8",
        "ec2.DescribeInstances",
        "POST /oauth2/token",
        "/grpc.health.v1.Health/Check",
        "oteldemo.CartService/AddItem",
        "kafka.consume orders",
        "orders publish",
        "SELECT shop.users",
        "HikariDataSource.getConnection",
        "x509",
        "base64",
        "redis-GET",
        "EVALSHA",
        "k8s.io/api/apps/v1beta1",
        "convertUtf8ToUtf16String",
        "Base64EncodedSHA256Digest",
        "PutS3ObjectAclV2",
        "GetS3ObjectAclV2ByBucket",
        "GET /img/logo@2x.png",
        "GET /oauth2/v2.0/authorize",
        "TLSv1.3 handshake",
        "build v1.22.3",
        "chat gpt-4o-mini",
        "GET /users/{id}",
        "GET /users/:id",
        "/users/<id>",
        "resolve Query.user",
        "TestServiceImpl$Inner$1.run",
        "lambda$main$0",
        "SELECT name FROM users WHERE id = $1 AND age > ?",
        "Update user's profile",
        "don't panic",
        "deadbeef",
        "facade",
        "std::collections::HashMap",
        "dead::beef",
        "4xx",
        "5xx",
        "10ms",
        "i18n",
        "a11y",
        "mp3",
        "middleware - <anonymous>",
        "/dist/main.bundle.js",
        "router - /api/*",
        "md5",
        "sha256",
        "GET /日本/テスト",
        "user@host",
        "@nestjs/core",
        "topic@broker",
        "a % b",
        "<_>",
        "GET /users/<_>",
        "process_batch",
        "-",
        "--",
        "AuthorizationServiceGrpcImplementation",
        "internationalization_and_localization",
        "dbo.sp_executesql",
    ] {
        assert_eq!(pattern(&sanitizer, name), name);
        assert_eq!(pattern(&on_request(), name), name);
    }
}

#[test]
fn numbers_are_tokens_of_digits() {
    assert_patterns(&[
        ("5", "<_>"),
        ("GET /5", "GET /<_>"),
        ("GET /-5/+6.25/x", "GET /<_>/<_>/x"),
        ("x=-1.5e-3", "x=<_>"),
        ("x=1e5", "x=<_>"),
        ("a-1", "a-<_>"),
        ("retry 3 of 5", "retry <_> of <_>"),
        ("worker-12", "worker-<_>"),
        ("shard_0007", "shard_<_>"),
        ("list[0]", "list[<_>]"),
        ("poll(250)", "poll(<_>)"),
        ("at 0x7fff5fbf", "at <_>"),
        ("at 0xzz", "at 0xzz"),
        ("rgb(1, 2,3 , 4)", "rgb(<_>)"),
        ("GET /page/1-20", "GET /page/<_>"),
        ("GET /a/1/2/3", "GET /a/<_>/<_>/<_>"),
        ("5'abc'", "<_>'abc'"),
        ("GET /v2/users/5?page=2&size=50", "GET /v2/users/<_>?page=<_>&size=<_>"),
        ("ip-10-0-12-7.ec2.internal", "ip-<_>.ec2.internal"),
        ("5 items in 1.25s, 2.5GiB, 100ms", "<_> items in <_>, 100ms"),
        ("user1.12345", "user1.<_>"),
        ("v1.2.345", "v1.2.<_>"),
        ("$5 and #5", "$5 and #<_>"),
    ]);
}

#[test]
fn dates_times_and_addresses_go_whole() {
    assert_patterns(&[
        ("backup 2024-01-31", "backup <_>"),
        ("backup 2024-01-31T10:00:00Z", "backup <_>"),
        ("backup 2024-01-31T10:00:00.123456+02:00 done", "backup <_> done"),
        ("backup 2024-01-31T10:00:00+0200", "backup <_>"),
        ("backup 2024-01-31T10:00", "backup <_>"),
        ("at 10:00:00Z", "at <_>"),
        ("at 10:00", "at <_>"),
        ("20240131T100000Z", "<_>"),
        ("dial 10.0.0.1:8080", "dial <_>"),
        ("dial 10.0.0.1", "dial <_>"),
        ("dial [2001:db8::1]:8080", "dial [<_>]:<_>"),
        ("dial ::1", "dial <_>"),
        ("wake 00:1B:44:11:3A:B7", "wake <_>"),
        ("wake 00-1b-44-11-3a-b7", "wake <_>"),
        ("dial fe80::1%eth0", "dial <_>%eth0"),
        ("dial ::ffff:10.0.0.1", "dial <_>"),
        ("mail to jane.doe+x@example.co.uk now", "mail to <_> now"),
        ("mailto:jane@example.com", "mailto:<_>"),
        ("GET /users/jane@example.com/cart", "GET /users/<_>/cart"),
    ]);
}

#[test]
fn identifiers_of_machines_go_and_words_with_digits_stay() {
    assert_patterns(&[
        ("GET /o/123e4567-e89b-12d3-a456-426614174000", "GET /o/<_>"),
        ("{123E4567-E89B-12D3-A456-426614174000}", "{<_>}"),
        ("GET /o/507f1f77bcf86cd799439011", "GET /o/<_>"),
        ("blob a1b2c3d4", "blob <_>"),
        ("blob a1b2c3d", "blob a1b2c3d"),
        ("GET /o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET /o/<_>"),
        ("GET /o/01arz3ndektsv4rrffq69g5fav", "GET /o/<_>"),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "<_>"),
        ("GET /o/cjld2cjxh0000qzrmn831i7rn", "GET /o/<_>"),
        ("GET /v/dQw4w9WgXcQaZ3kLm9PqR7", "GET /v/<_>"),
        ("GET /s/eyJzdWIiOiIxMjM0NTY3ODkwIn0", "GET /s/<_>"),
        ("pod checkout-7d9f8b6c5d-x2x4z", "pod checkout-<_>"),
        ("pod checkout-x2x4z", "pod checkout-x2x4z"),
        ("pod checkout-7d9f8b6c5d-green", "pod checkout-<_>-green"),
        ("GET /search/caf%C3%A9%20au%20lait/x", "GET /search/<_>/x"),
        ("arn:aws:sqs:us-east-1:123456789012:orders", "arn:aws:sqs:us-east-<_>:orders"),
        ("s3://bucket/logs/2024/01/31/part-00001.gz", "s3://bucket/logs/<_>/<_>/<_>/part-<_>.gz"),
    ]);
}

#[test]
fn literals_of_sql_go_and_quotes_elsewhere_stay() {
    assert_patterns(&[
        ("SELECT * FROM t WHERE id IN (1,2,3)", "SELECT * FROM t WHERE id IN (<_>)"),
        ("SELECT * FROM t WHERE id IN (1, 2)", "SELECT * FROM t WHERE id IN (<_>)"),
        ("select a from t where b = 'it''s' and c='x'", "select a from t where b = <_> and c=<_>"),
        ("SELECT a FROM t WHERE b='cut of", "SELECT a FROM t WHERE b=<_>"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')", "INSERT INTO t (a, b) VALUES (<_>)"),
        ("UPDATE t SET a = -1.5 WHERE b = 'x' LIMIT 10", "UPDATE t SET a = <_> WHERE b = <_> LIMIT <_>"),
        ("/* route=a */ DELETE FROM t WHERE a LIKE '%ab%'", "/* route=a */ DELETE FROM t WHERE a LIKE <_>"),
        ("WITH x AS (SELECT 'a') SELECT * FROM x", "WITH x AS (SELECT <_>) SELECT * FROM x"),
        ("say 'hello' to 5", "say 'hello' to <_>"),
        ("DELETE /users/5/it's", "DELETE /users/<_>/it's"),
        ("Select user's cart", "Select user's cart"),
        ("f(1), (2)", "f(<_>), (<_>)"),
    ]);
}

#[test]
fn the_first_rule_that_matches_replaces_all_its_matches() {
    let rules = [("^/shop/([a-z]+)/(?<rest>.*)$", "shop $1: ${rest}"), ("shop", "never"), ("o+", "$$0"), ("", "-")];
    let both = sanitizer(true, &rules).expect("valid rules");
    assert_eq!(pattern(&both, "/shop/cart/5"), "shop cart: <_>");
    assert_eq!(pattern(&both, "foo boo 5"), "f$0 b$0 <_>");
    assert_eq!(pattern(&both, "x5é"), "-x-<_>-é-");
    let rules_only = sanitizer(false, &rules).expect("valid rules");
    assert_eq!(pattern(&rules_only, "foo 5"), "f$0 5");
    assert_eq!(pattern(&sanitizer(false, &[]).expect("no rules"), "GET /5"), "GET /5");
    assert_eq!(pattern(&sanitizer(true, &[("^$", "unnamed")]).expect("valid"), ""), "unnamed");
    assert_eq!(pattern(&sanitizer(true, &[("a", "a")]).expect("valid"), "aa"), "aa", "it matched and changed nothing");
}

#[test]
fn replacing_is_what_the_regex_crate_does() {
    let rules = [("a*", "<$0>"), ("(a)|b", "[$1]"), ("\\b", "|"), ("é?", "x"), ("(?:a|ab)(c|)", "$1$1")];
    for (expression, template) in rules {
        let ours = sanitizer(false, &[(expression, template)]).expect("valid");
        for name in ["", "a", "baac", "abcabc", "éaé", "caab aab"] {
            let theirs = regex::Regex::new(expression).expect("valid").replace_all(name, template).into_owned();
            assert_eq!(pattern(&ours, name), theirs, "{expression} {template} {name}");
        }
    }
}

#[test]
fn a_wrong_rule_is_refused_with_the_remedy() {
    let table = [
        (("(", ""), "rule 2: the match `(` is not a valid regular expression; correct it: "),
        (("a", "$1"), "rule 2: the match has no group `1`; name it there, or write `${1}`"),
        (("(a)", "$1st"), "rule 2: the match has no group `1st`; name it there, or write `${1}`"),
        (("(?<b>a)", "${c}"), "rule 2: the match has no group `c`"),
        (("a", "5 $"), "rule 2: `$` is followed by no group; write `$$` for a dollar"),
        (("a", "${1"), "rule 2: a `${` is not closed; add `}`"),
    ];
    for (rule, expected) in table {
        let error = sanitizer(true, &[("x", "y"), rule]).expect_err("a wrong rule").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn names_that_are_no_utf8_stay() {
    let sanitizer = sanitizer(true, &[("a", "b")]).expect("valid");
    assert!(!sanitizer.apply(b"a 5 \xff", &mut Vec::new()));
}

#[test]
fn merges_are_listed_largest_first() {
    let names =
        [("GET /a/1", 3), ("GET /b", 9), ("GET /a/2", 4), ("x-1", 1), ("x-<_>", 2), ("GET /a/1", 5), ("y 7", 8)];
    let group = |pattern: &str, names: &[(&str, u64)], count| Merge {
        pattern: pattern.to_owned(),
        names: names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        count,
    };
    let expected = [
        group("GET /a/<_>", &[("GET /a/1", 8), ("GET /a/2", 4)], 12),
        group("x-<_>", &[("x-1", 1), ("x-<_>", 2)], 3),
        group("y <_>", &[("y 7", 8)], 8),
    ];
    assert_eq!(builtin().merges(names.iter().map(|(name, n)| (name.as_bytes(), *n))), expected);
}
