//! The tenant of a record.

use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::config::settings::TenantSource;
use crate::core::model::text::is_tenant;

/// The tenant of a record, if it names one.
#[must_use]
pub fn of<'a>(message: &'a BorrowedMessage<'_>, source: &'a TenantSource) -> Option<&'a str> {
    let bytes = match source {
        TenantSource::Static(name) | TenantSource::Attribute { fallback: name, .. } => return Some(name),
        TenantSource::Topic => Some(message.topic().as_bytes()),
        TenantSource::Key => message.key(),
        TenantSource::Header(name) => message.headers()?.iter().find(|h| h.key == name)?.value,
    };
    // It is sent with every label set: a name that is absurdly long must not make delta records that no broker accepts.
    // And it goes into headers and logs: a name with a line feed is not a tenant.
    std::str::from_utf8(bytes?).ok().filter(|name| is_tenant(name))
}
