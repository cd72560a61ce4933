# spanmill in an image, as a user without rights: `docker build --tag spanmill .`
#
#   docker run --rm spanmill --help
#   docker run --volume ./spanmill.yaml:/etc/spanmill/spanmill.yaml:ro spanmill run --config /etc/spanmill/spanmill.yaml

# The oldest Rust that builds it; the C compiler, make and perl for librdkafka and OpenSSL are in this image, too.
FROM rust:1.95.0-bookworm AS build
# The file rust-toolchain.toml names a channel; here it is what the image has, and nothing is downloaded.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin spanmill && cp target/release/spanmill /usr/local/bin/spanmill

# The same Debian: the program links its libc and zlib, and trusts the authorities whose certificates come along.
FROM debian:12.11-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/spanmill /usr/local/bin/spanmill
# nobody
USER 65534:65534
ENTRYPOINT ["spanmill"]
