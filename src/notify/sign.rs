//! Signs messages as Standard Webhooks 1.0 says, so that receivers can verify them with any of its libraries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Says that the rest is the key in base64 (Standard Webhooks, "Secret serialization").
const PREFIX: &str = "whsec_";

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret begins with {PREFIX} and is not base64 after it")]
pub(super) struct BadSecret;

/// The `webhook-signature` header: one signature per secret, so that a receiver can change to the next one at its own
/// time. The signature is over `id.timestamp.body`.
pub(super) fn signatures(
    secrets: &[SecretString],
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> Result<String, BadSecret> {
    let mut header = String::new();
    for secret in secrets {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(mac(&key(secret)?, id, timestamp, body), &mut header);
    }
    Ok(header)
}

/// The bytes of a text that is not in the scheme's form are the key themselves.
fn key(secret: &SecretString) -> Result<Vec<u8>, BadSecret> {
    let secret = secret.expose_secret();
    match secret.strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| BadSecret),
        None => Ok(secret.as_bytes().to_vec()),
    }
}

fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
