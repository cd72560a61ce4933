//! Why a record cannot be decoded.

/// The bytes are not an `ExportTraceServiceRequest`. The record as a whole is refused; no part of it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A field runs past the end of its message.
    #[error("the OTLP record is cut off inside a field; check the producer for truncation")]
    CutOff,
    /// A varint longer than 64 bits.
    #[error("the OTLP record holds a varint longer than 64 bits; check that it is protobuf")]
    Varint,
    /// Field number zero, a key above 32 bits, or a reserved wire type.
    #[error("the OTLP record holds an invalid field key; check that it is protobuf, and of this encoding")]
    Key,
    /// A group, which OTLP has never used.
    #[error("the OTLP record holds a protobuf group (field {0}), which OTLP does not use")]
    Group(u32),
    /// A known field with a foreign wire type.
    #[error(
        "field {field} of the OTLP {message} has the wrong wire type; check that the topic's encoding is \
             otlp_proto"
    )]
    WireType {
        /// The message's name in the OTLP protocol.
        message: &'static str,
        /// The field's number.
        field: u32,
    },
    /// Messages nested more than 100 deep.
    #[error("the OTLP record nests more than 100 messages deep")]
    TooDeep,
    /// More bytes than positions can count.
    #[error("the OTLP record is larger than 4 GiB")]
    TooLarge,
}
