//! Why an attempt got no answer, by the error texts of the libraries, and its remedy.

/// Parts of error texts, and the remedy. The first that is found counts.
const WORDS: &[(&str, &str)] = &[
    (
        "InvalidContentType",
        "the receiver does not speak TLS at this port: write http:// in remote_write.url, or use its TLS port",
    ),
    (
        "UnknownIssuer",
        "the receiver's certificate is not signed by a trusted CA: set remote_write.tls.ca_file to the CA that \
         signed it",
    ),
    (
        "NotValidForName",
        "the receiver's certificate is for another name: use the name of the certificate in \
                         remote_write.url",
    ),
    (
        "not valid for name",
        "the receiver's certificate is for another name: use the name of the certificate in \
                            remote_write.url",
    ),
    ("Expired", "the receiver's certificate has expired: renew it, or correct the clock of this machine"),
    ("NotValidYet", "the receiver's certificate is not valid yet: check the clock of this machine"),
    (
        "CertificateRequired",
        "the receiver requires a client certificate: set remote_write.tls.cert_file and remote_write.tls.key_file",
    ),
    ("invalid HTTP", OTHER_PROTOCOL),
    ("received unexpected message from connection", OTHER_PROTOCOL),
    ("stream closed because of a broken pipe", CLOSES),
    ("connection error detected", CLOSES),
    (
        "connection closed before message completed",
        "the peer closed the connection: check that the port in remote_write.url is the receiver's HTTP port, and that \
         nothing between cuts connections",
    ),
    ("operation was canceled", CLOSES),
    ("channel closed", CLOSES),
    ("dns error", "DNS does not know the host: check the name in remote_write.url"),
    ("failed to lookup", "DNS does not know the host: check the name in remote_write.url"),
    (
        "Connection refused",
        "no process listens at this address: check that the receiver is up, and host and port in \
                            remote_write.url",
    ),
];

const CLOSES: &str = "the peer closes the connection, or does not speak HTTP/2, which gRPC needs: check the port in remote_write.url \
                      (for gRPC 4317 at the Collector; 4318 is for the type otlp_http), and write https:// if the port is for TLS";
const OTHER_PROTOCOL: &str = "the port does not speak plain HTTP/1.1 (it may be one of gRPC or Kafka): check the port in \
                              remote_write.url, and write https:// if the port is for TLS";

/// The answer of HTTPS servers to plain HTTP, with status 400. It is not about samples.
const PLAIN: [&str; 3] = [
    "HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "speaking plain HTTP to an SSL-enabled",
];

/// The remedy for an error text, if it is known.
pub(super) fn remedy(words: &str) -> Option<&'static str> {
    WORDS.iter().find(|(word, _)| words.contains(word)).map(|(_, remedy)| *remedy)
}

/// Whether an answer means that the port is for HTTPS.
pub(super) fn wants_tls(status: u16, text: &str) -> bool {
    status == 400 && PLAIN.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_failure_tell_what_to_do() {
        let tls = "client error (Connect): received corrupt message of type InvalidContentType";
        assert!(remedy(tls).is_some_and(|text| text.contains("write http://")));
        let ca = "client error (Connect): invalid peer certificate: UnknownIssuer";
        assert!(remedy(ca).is_some_and(|text| text.contains("tls.ca_file")));
        assert!(remedy("invalid HTTP version parsed").is_some_and(|text| text.contains("check the port")));
        assert!(remedy("connection closed before message completed").is_some_and(|text| text.contains("HTTP port")));
        assert_eq!(remedy("operation timed out"), None);
    }

    #[test]
    fn an_answer_to_plain_http_at_a_port_for_https_is_told_from_one_about_samples() {
        assert!(wants_tls(400, "Client sent an HTTP request to an HTTPS server."));
        assert!(wants_tls(400, "<center>The plain HTTP request was sent to HTTPS port</center>"));
        assert!(!wants_tls(400, "out of order sample"));
        assert!(!wants_tls(200, "Client sent an HTTP request to an HTTPS server."));
    }
}
