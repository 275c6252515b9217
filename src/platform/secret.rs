//! Secrets: read from files, systemd credentials or the environment, and never printed.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::decide::event::{SecretRef, TextOrSecret};

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the environment variable {0} is not set; it should hold a secret")]
    Env(String),
    #[error("the credential {0} was not passed: add LoadCredential={0}:/path/to/it to the unit, or use file or env")]
    NoCredentials(String),
    #[error("the secret {0} is empty")]
    Empty(String),
}

/// Reads a secret now: a rotated file is seen at the next use. One trailing line end is not part of it.
pub fn read(secret: &SecretRef) -> Result<SecretString, SecretError> {
    let (name, text) = match secret {
        SecretRef::File(path) => (path, read_file(PathBuf::from(path))?),
        SecretRef::Env(name) => (name, std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?),
        SecretRef::Credential(name) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let folder = folder.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
            (name, read_file(PathBuf::from(folder).join(name))?)
        }
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty(name.clone()));
    }
    Ok(SecretString::from(text))
}

/// The text itself, or the prefix and the secret.
pub fn resolve(text: &TextOrSecret) -> Result<SecretString, SecretError> {
    match text {
        TextOrSecret::Text(text) => Ok(SecretString::from(text.as_str())),
        TextOrSecret::Secret { prefix, secret } => {
            let secret = read(secret)?;
            Ok(SecretString::from(format!("{prefix}{}", secret.expose_secret())))
        }
    }
}

fn read_file(path: PathBuf) -> Result<String, SecretError> {
    std::fs::read_to_string(&path).map_err(|source| SecretError::File { path, source })
}
