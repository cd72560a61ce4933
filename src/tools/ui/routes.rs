//! The paths of the page and its API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;

use super::assets::ASSETS;
use super::{PageSettings, SharedMap, answer};
use crate::core::model::Millis;
use crate::core::model::duration::milliseconds;
use crate::core::model::time::from_rfc3339;
use crate::tools::map::{self, GraphQuery};
use crate::worker::admin::guard::Guard;

/// Every path of the API, as `docs/openapi.yaml` has it.
pub const PATHS: [&str; 4] =
    ["/api/v1/tenants", "/api/v1/service-graph", "/api/v1/edges/history", "/api/v1/services/{id}"];

const JSON: &str = "application/json";
const DOT: &str = "text/vnd.graphviz";
const MERMAID: &str = "text/vnd.mermaid";

struct PageState {
    map: SharedMap,
    settings: PageSettings,
    /// Only names of this machine are answered.
    local: bool,
}

type Parameters = Query<BTreeMap<String, String>>;

pub(super) fn router(map: SharedMap, settings: PageSettings, addr: SocketAddr, token: Arc<Guard>) -> Router {
    let state = Arc::new(PageState { map, settings, local: addr.ip().is_loopback() });
    let mut router = Router::new()
        .route("/api/v1/tenants", get(tenants))
        .route("/api/v1/service-graph", get(graph))
        .route("/api/v1/edges/history", get(edge))
        .route("/api/v1/services/{*id}", get(service))
        .fallback(async || answer::problem(StatusCode::NOT_FOUND, "there is nothing here; the page is at /"));
    for asset in &ASSETS {
        router = router.route(asset.path, get(async |asked: HeaderMap| answer::asset(asset, &asked)));
    }
    let guarded = middleware::from_fn_with_state(Arc::clone(&state), guard);
    let asked = middleware::from_fn_with_state(token, crate::worker::admin::guard::guard);
    router.layer(asked).layer(guarded).with_state(state)
}

/// On the loopback interface, a name that is not one of this machine is an attack by a foreign page (DNS rebinding).
async fn guard(State(state): State<Arc<PageState>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if state.local && !is_local(host) {
        let what = "this page answers to localhost and 127.0.0.1 only; to reach it by another name, set --listen";
        return answer::secure(answer::problem(StatusCode::MISDIRECTED_REQUEST, what));
    }
    answer::secure(next.run(request).await)
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn tenants(State(state): State<Arc<PageState>>, asked: HeaderMap) -> Response {
    let tenants = state.map.lock().tenants();
    let PageSettings { source, trace_url, edge_delay, finished, .. } = &state.settings;
    let json = serde_json::json!({
        "tenants": tenants,
        "source": source,
        "trace_url": trace_url,
        "edge_delay": edge_delay,
        "finished": finished,
        "version": env!("CARGO_PKG_VERSION"),
    });
    answer::body(JSON, json.to_string(), &asked)
}

async fn graph(State(state): State<Arc<PageState>>, Query(given): Parameters, asked: HeaderMap) -> Response {
    let times = [moment(&given, "at"), moment(&given, "compare"), length(&given, "range")];
    let [Ok(at), Ok(compare), Ok(range)] = &times else { return refuse(times) };
    let kind = match form(&given, &asked) {
        Ok(kind) => kind,
        Err(what) => return answer::problem(StatusCode::BAD_REQUEST, &what),
    };
    let tenant = tenant(&state, &given);
    let namespace = given.get("namespace").map(String::as_str);
    let query = GraphQuery { tenant: &tenant, at: *at, compare: *compare, range: *range, namespace };
    let graph = state.map.lock().graph(&query);
    let text = match kind {
        DOT => map::dot(&graph),
        MERMAID => map::mermaid(&graph),
        _ => serde_json::to_string(&graph).unwrap_or_default(),
    };
    answer::body(kind, text, &asked)
}

async fn edge(State(state): State<Arc<PageState>>, Query(given): Parameters, asked: HeaderMap) -> Response {
    let range = match length(&given, "range") {
        Ok(range) => range,
        Err(what) => return answer::problem(StatusCode::BAD_REQUEST, &what),
    };
    let [client, server] = ["client", "server"].map(|name| given.get(name));
    let (Some(client), Some(server)) = (client, server) else {
        return answer::problem(StatusCode::BAD_REQUEST, "client and server are required: identifiers of nodes");
    };
    let tenant = tenant(&state, &given);
    let history = state.map.lock().edge(&tenant, client, server, range);
    found(history.as_ref(), "there is no such edge", &asked)
}

async fn service(
    State(state): State<Arc<PageState>>,
    Path(id): Path<String>,
    Query(given): Parameters,
    asked: HeaderMap,
) -> Response {
    let times = [moment(&given, "at"), length(&given, "range")];
    let [Ok(at), Ok(range)] = &times else { return refuse(times) };
    let tenant = tenant(&state, &given);
    let service = state.map.lock().service(&tenant, &id, *at, *range);
    found(service.as_ref(), "there is no such service", &asked)
}

fn found<T: serde::Serialize>(what: Option<&T>, missing: &str, asked: &HeaderMap) -> Response {
    match what {
        Some(what) => answer::body(JSON, serde_json::to_string(what).unwrap_or_default(), asked),
        None => answer::problem(StatusCode::NOT_FOUND, missing),
    }
}

fn refuse<const N: usize>(times: [Result<Option<Millis>, String>; N]) -> Response {
    let wrong: Vec<String> = times.into_iter().filter_map(Result::err).collect();
    answer::problem(StatusCode::BAD_REQUEST, &wrong.join("; "))
}

/// The tenant: the first one, if none is named.
fn tenant(state: &PageState, given: &BTreeMap<String, String>) -> String {
    let first = || state.map.lock().tenants().into_iter().next().unwrap_or_default();
    given.get("tenant").cloned().unwrap_or_else(first)
}

fn moment(given: &BTreeMap<String, String>, name: &str) -> Result<Option<Millis>, String> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let at = text.parse().ok().or_else(|| from_rfc3339(text)).filter(|at: &Millis| (0..=1 << 50).contains(at));
    let wrong = || format!("{name}: {text:?} is no time; use milliseconds since 1970 or 2026-07-01T12:00:00Z");
    at.map(Some).ok_or_else(wrong)
}

fn length(given: &BTreeMap<String, String>, name: &str) -> Result<Option<Millis>, String> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let wrong = || format!("{name}: {text:?} is no duration; use 30m or 12h");
    milliseconds(text).filter(|length| (1..=1 << 50).contains(length)).map(Some).ok_or_else(wrong)
}

/// The form of a graph: by `format`, or else by what the client accepts.
fn form(given: &BTreeMap<String, String>, asked: &HeaderMap) -> Result<&'static str, String> {
    match given.get("format").map(String::as_str) {
        Some("json") => return Ok(JSON),
        Some("dot") => return Ok(DOT),
        Some("mermaid") => return Ok(MERMAID),
        Some(other) => return Err(format!("format: {other:?} is unknown; use json, dot or mermaid")),
        None => {}
    }
    let accepted = asked.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = accepted.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
    Ok(form.filter_map(|one| [JSON, DOT, MERMAID].into_iter().find(|known| *known == one)).next().unwrap_or(JSON))
}

#[cfg(test)]
mod tests {
    use super::super::TRACE_ID;
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:9", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "10.0.0.1:80", "[fe80::1]"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_link_to_a_trace_needs_a_scheme_and_a_place_for_the_id() {
        assert!(PageSettings::check_trace_url(&format!("https://tempo.example/trace/{TRACE_ID}")).is_ok());
        assert!(PageSettings::check_trace_url(&format!("javascript:alert({TRACE_ID})")).is_err());
        assert!(PageSettings::check_trace_url("https://tempo.example/").is_err());
    }

    #[test]
    fn a_time_is_milliseconds_or_rfc_3339() {
        let given = |text: &str| BTreeMap::from([("at".to_owned(), text.to_owned())]);
        assert_eq!(moment(&given("1700000000000"), "at"), Ok(Some(1_700_000_000_000)));
        assert_eq!(moment(&given("2023-11-14T22:13:20Z"), "at"), Ok(Some(1_700_000_000_000)));
        assert_eq!(moment(&BTreeMap::new(), "at"), Ok(None));
        for wrong in ["-1", "yesterday", "99999999999999999999"] {
            assert!(moment(&given(wrong), "at").is_err(), "{wrong}");
        }
    }
}
