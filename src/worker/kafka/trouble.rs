//! Maps librdkafka's messages about a broker that cannot be reached to a cause with a remedy.
//!
//! *In:* lines of its log and its errors, whose text is the only source of the cause. *Out:* the kind of trouble and
//! what to do about it. The last trouble is kept for a while, so that the error of a request without an answer can name
//! the cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An older trouble does not explain a request that fails now: librdkafka reports the same failure of a broker every
/// 30 s.
const KEPT: Duration = Duration::from_secs(45);
/// A connection that a broker closes within this time after it has accepted it, in milliseconds, was closed because of
/// the first request.
const AT_ONCE: u64 = 2_000;

/// A kind of trouble with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Its name.
    pub(crate) kind: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

const fn trouble(kind: &'static str, remedy: &'static str) -> Trouble {
    Trouble { kind, remedy }
}

const NO_TLS: Trouble = trouble(
    "no TLS at this port",
    "the broker does not speak TLS at this port: use its TLS port in kafka.brokers, or set kafka.properties \
     security.protocol to PLAINTEXT (SASL_PLAINTEXT with a user)",
);
const WANTS_TLS: Trouble = trouble(
    "TLS at this port",
    "the broker closes the connection at once, as a TLS port does: set kafka.properties security.protocol to SSL \
     (SASL_SSL with a user), or use a port without TLS in kafka.brokers",
);
const WANTS_SASL: Trouble = trouble(
    "SASL at this port",
    "the broker closes the connection at the first request, as a SASL port does: set kafka.properties \
     security.protocol to SASL_PLAINTEXT or SASL_SSL, and sasl.mechanisms, sasl.username, sasl.password",
);
const NO_SASL: Trouble = trouble(
    "no SASL at this port",
    "the broker does not accept SASL at this port: use another port in kafka.brokers, or set kafka.properties \
     security.protocol to PLAINTEXT or SSL",
);
const MECHANISM: Trouble = trouble(
    "SASL mechanism",
    "the broker does not support this mechanism: set kafka.properties sasl.mechanisms to one that it supports",
);
const PASSWORD: Trouble = trouble(
    "SASL credentials",
    "the broker rejects the user or the password: check kafka.properties sasl.username and sasl.password, and \
     whether the user has credentials for this sasl.mechanisms",
);
const TOKEN: Trouble = trouble(
    "SASL token",
    "the broker rejects the token: check that it is for this cluster (issuer, audience, scope) and that the clocks agree; \
     with AWS_MSK_IAM, that its identity may kafka-cluster:Connect",
);
const OTHER_NAME: Trouble = trouble(
    "certificate for another name",
    "the broker's certificate is for another name: use the name of the certificate in kafka.brokers and in the \
     broker's advertised.listeners",
);
const CERTIFICATE: Trouble = trouble(
    "certificate",
    "the broker's certificate is not signed by a trusted CA, or is not valid now: set kafka.properties \
     ssl.ca.location to the CA that signed it",
);
const CLIENT_CERTIFICATE: Trouble = trouble(
    "client certificate",
    "the broker requires a client certificate, or rejects the configured one: set kafka.properties \
     ssl.certificate.location and ssl.key.location",
);
const NAME: Trouble = trouble(
    "name not known",
    "DNS does not know this name: check kafka.brokers, and the brokers' advertised.listeners for names that only \
     they can resolve",
);
const REFUSED: Trouble = trouble(
    "connection refused",
    "no process listens at this address: check that the broker is up, host and port in kafka.brokers, and the \
     brokers' advertised.listeners",
);
const SILENT: Trouble = trouble(
    "no route to the broker",
    "this address does not answer: check host and port in kafka.brokers, the network and firewalls",
);

/// Texts of librdkafka, OpenSSL and the system, and what they mean. The first that is found counts.
const WORDS: &[(&[&str], Trouble)] = &[
    (&["PLAINTEXT broker listener"], NO_TLS),
    (&["SSL handshake", "wrong version number"], NO_TLS),
    (&["SSL handshake", "packet length too long"], NO_TLS),
    (&["hostname mismatch"], OTHER_NAME),
    (&["IP address mismatch"], OTHER_NAME),
    (&["certificate required"], CLIENT_CERTIFICATE),
    (&["client SSL authentication might be required"], CLIENT_CERTIFICATE),
    (&["alert bad certificate"], CLIENT_CERTIFICATE),
    (&["alert unknown ca"], CLIENT_CERTIFICATE),
    (&["certificate verify failed"], CERTIFICATE),
    (&["certificate could not be verified"], CERTIFICATE),
    (&["SSL handshake", "Disconnected"], NO_TLS),
    (&["SSL listener?"], WANTS_TLS),
    (&["not valid in current SASL state"], NO_SASL),
    (&["Disconnected", "in state AUTH"], NO_SASL),
    (&["Unsupported SASL mechanism"], MECHANISM),
    (&["SASL mechanism handshake failed"], MECHANISM),
    (&["OAUTHBEARER", "authentication failed"], TOKEN),
    (&["invalid_token"], TOKEN),
    (&["SASL", "Authentication failed"], PASSWORD),
    (&["SASL authentication error"], PASSWORD),
    (&["SASL authentication failed"], PASSWORD),
    (&["invalid credentials"], PASSWORD),
    (&["might require SASL"], WANTS_SASL),
    (&["Failed to resolve"], NAME),
    (&["Connection refused"], REFUSED),
    (&["Connection setup timed out"], SILENT),
    (&["Connection timed out"], SILENT),
    (&["No route to host"], SILENT),
    (&["Network is unreachable"], SILENT),
];

/// The last trouble, and when it was met.
static LAST: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// The kind of trouble that a text is about; `None` when it is about something else.
pub(crate) fn of(text: &str) -> Option<Trouble> {
    // The state in which the broker closed the connection shows the cause; librdkafka does not conclude that by itself.
    if text.contains("Disconnected") && text.contains("in state APIVERSION_QUERY") {
        return Some(if text.contains("ssl://") { CLIENT_CERTIFICATE } else { WANTS_TLS });
    }
    if text.contains("Disconnected") && !text.contains("sasl_") && closed_at_once(text) {
        return Some(WANTS_SASL);
    }
    WORDS.iter().find(|(words, _)| words.iter().all(|word| text.contains(word))).map(|(_, trouble)| *trouble)
}

/// Whether a connection was closed right after the broker was up: `… (after 3ms in state UP)`.
fn closed_at_once(text: &str) -> bool {
    let millis = text.rsplit_once(" (after ").and_then(|(_, rest)| rest.split_once("ms in state UP"));
    millis.and_then(|(millis, _)| millis.parse::<u64>().ok()).is_some_and(|millis| millis < AT_ONCE)
}

/// The text without the name of a thread, with which lines of the log begin.
pub(crate) fn plain(text: &str) -> &str {
    text.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(text, |(_, rest)| rest)
}

/// Stores the last trouble, with its remedy.
pub(crate) fn met(trouble: Trouble, text: &str) {
    let told = format!("{}; {}", text.split(" (after ").next().unwrap_or(text), trouble.remedy);
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), told));
}

/// Why brokers do not answer, as far as it was reported within the last minute, with the remedy.
pub(crate) fn last() -> Option<String> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.as_ref().filter(|(at, _)| at.elapsed() < KEPT).map(|(_, told)| told.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_librdkafka_tell_the_cause() {
        let table = [
            (
                "127.0.0.1:9093/bootstrap: Disconnected: connection closed by peer (after 1ms in state APIVERSION_QUERY)",
                Some(WANTS_TLS),
            ),
            (
                "ssl://127.0.0.1:9093/bootstrap: Disconnected: connection closed by peer (after 1ms in state APIVERSION_QUERY)",
                Some(CLIENT_CERTIFICATE),
            ),
            (
                "ssl://127.0.0.1:9092/bootstrap: SSL handshake failed: Disconnected: connection closed by peer: connecting to a \
                 PLAINTEXT broker listener? (after 2ms in state SSL_HANDSHAKE)",
                Some(NO_TLS),
            ),
            (
                "ssl://h:1/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number: (after 1ms)",
                Some(NO_TLS),
            ),
            (
                "ssl://h:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
                 certificate could not be verified, verify that ssl.ca.location is correctly configured",
                Some(CERTIFICATE),
            ),
            ("sasl_plaintext://h:1/bootstrap: SASL authentication error: Authentication failed", Some(PASSWORD)),
            (
                "sasl_plaintext://h:1/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
                 broker's supported mechanisms: SCRAM-SHA-256",
                Some(MECHANISM),
            ),
            (
                "sasl_plaintext://h:1/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL \
                 state: broker's supported mechanisms: ",
                Some(NO_SASL),
            ),
            ("h:1/bootstrap: Disconnected: connection closed by peer (after 3ms in state UP)", Some(WANTS_SASL)),
            ("h:1/1: Disconnected: connection closed by peer (after 30000ms in state UP)", None),
            ("sasl_ssl://h:1/1: Disconnected: connection closed by peer (after 3ms in state UP)", None),
            ("nowhere:9092/bootstrap: Failed to resolve 'nowhere:9092': Name or service not known", Some(NAME)),
            (
                "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
                Some(REFUSED),
            ),
            (
                "h:1/bootstrap: Connection setup timed out in state CONNECT (after 30001ms in state CONNECT)",
                Some(SILENT),
            ),
            ("1/1 brokers are down", None),
        ];
        for (text, expected) in table {
            assert_eq!(of(text).map(|t| t.kind), expected.map(|t| t.kind), "{text}");
        }
    }

    #[test]
    fn the_name_of_a_thread_is_no_part_of_what_is_said() {
        assert_eq!(
            plain("[thrd:127.0.0.1:1/1]: 127.0.0.1:1/1: Connection refused"),
            "127.0.0.1:1/1: Connection refused"
        );
        assert_eq!(plain("1/1 brokers are down"), "1/1 brokers are down");
    }
}
