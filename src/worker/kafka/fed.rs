//! Clients of librdkafka that get the tokens of SASL OAUTHBEARER.
//!
//! librdkafka asks for tokens where a client is polled. An admin client never is, and a consumer that is only asked for
//! metadata is not either, so tokens are handed to every client as soon as they come. The crate `rdkafka` has that function of
//! librdkafka for no client, and without SASL extensions: this is the one place that calls librdkafka itself.
#![allow(unsafe_code, reason = "the crate has no call that hands a token to a client, see above")]

use std::ffi::{CStr, CString, c_char};
use std::ops::Deref;
use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings::{
    rd_kafka_oauthbearer_set_token, rd_kafka_oauthbearer_set_token_failure, rd_kafka_resp_err_t, rd_kafka_t,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, ThreadedProducer};

use super::tokens::{self, Feed, TakesTokens};
use crate::worker::identity::oauth::Token;

/// The principal of a token that names none. Brokers take theirs from the token.
const PRINCIPAL: &str = "spanmill";

/// A client of librdkafka, of any kind.
pub(crate) trait Native {
    /// librdkafka's client. It lives as long as `self`, wherever that is moved.
    fn native(&self) -> *mut rd_kafka_t;
}

/// A client that gets tokens as long as it lives, if it needs any.
pub(crate) struct Fed<T> {
    // Fields are dropped in their order, so the client outlives its feed.
    _feed: Option<Feed>,
    client: T,
}

/// librdkafka's client, for the thread that gets the tokens.
struct Pointer(*mut rd_kafka_t);

// SAFETY: librdkafka's functions may be called from any thread.
unsafe impl Send for Pointer {}

// === impl Native ===

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<T: Native> Native for Arc<T> {
    fn native(&self) -> *mut rd_kafka_t {
        (**self).native()
    }
}

impl<C: ProducerContext> Native for BaseProducer<C> {
    fn native(&self) -> *mut rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Native for ThreadedProducer<C> {
    fn native(&self) -> *mut rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut rd_kafka_t {
        self.inner().native_ptr()
    }
}

// === impl Fed ===

impl<T: Native> Fed<T> {
    /// Feeds the client that was made with this configuration.
    pub(crate) fn new(client: T, config: &ClientConfig) -> Self {
        let source = config.get(tokens::PROPERTY);
        let feed = source.and_then(|source| tokens::feed(source, Box::new(Pointer(client.native()))));
        Self { _feed: feed, client }
    }
}

impl<T> Deref for Fed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

// === impl Pointer ===

impl TakesTokens for Pointer {
    fn take(&self, token: &Token, extensions: &[(String, String)]) -> Result<(), String> {
        let text = |text: &str| CString::new(text).map_err(|_| "it contains a zero byte".to_owned());
        let value = text(&token.value)?;
        let principal = text(token.subject.as_deref().unwrap_or(PRINCIPAL))?;
        let texts: Vec<CString> = extensions
            .iter()
            .flat_map(|(name, value)| [name, value])
            .map(|part| text(part))
            .collect::<Result<_, _>>()?;
        let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let mut why = [0; 512];
        // SAFETY: a feed ends before its client does, so the client is there. librdkafka copies all texts, which end with a
        // zero byte and live until it returns; it writes at most as many bytes of the reason as there is room for, with a
        // zero byte at the end.
        let (code, why) = unsafe {
            let code = rd_kafka_oauthbearer_set_token(
                self.0,
                value.as_ptr(),
                token.expires,
                principal.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                why.as_mut_ptr(),
                why.len(),
            );
            (code, CStr::from_ptr(why.as_ptr()).to_string_lossy().into_owned())
        };
        if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(why) }
    }

    fn miss(&self, why: &str) {
        let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
        // SAFETY: as above.
        unsafe { rd_kafka_oauthbearer_set_token_failure(self.0, why.as_ptr()) };
    }
}
