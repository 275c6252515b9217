//! HTTP clients with backstop's limits: no redirects, no proxy unless configured, bounded bodies.

use std::path::PathBuf;

use crate::config::model::{ClientSpec, RequestLimits};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read the certificates in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} holds no certificate in PEM form")]
    NotPem { path: PathBuf },
    #[error("the HTTP client cannot be built: if the system has no CA certificates, install ca-certificates")]
    Build(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body was cut short")]
    Cut(#[source] reqwest::Error),
}

/// Chooses the TLS implementation; call once, before the first client. A second call changes nothing.
pub fn install_crypto() {
    // The error says that a provider is installed already, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A client as `spec` asks for. Keep it: connections are reused.
pub fn client(spec: &ClientSpec, limits: &RequestLimits) -> Result<reqwest::Client, ClientError> {
    install_crypto();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect_timeout)
        .timeout(limits.timeout)
        .no_proxy();
    if let Some(proxy) = &spec.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(ClientError::Build)?);
    }
    if let Some(path) = &spec.tls.ca_file {
        let pem = std::fs::read(path).map_err(|source| ClientError::Read { path: path.clone(), source })?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(ClientError::Build)?;
        if roots.is_empty() {
            return Err(ClientError::NotPem { path: path.clone() });
        }
        builder = builder.tls_certs_merge(roots);
    }
    if let Some(path) = &spec.tls.identity_file {
        let pem = std::fs::read(path).map_err(|source| ClientError::Read { path: path.clone(), source })?;
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(ClientError::Build)?);
    }
    builder.build().map_err(ClientError::Build)
}

/// The body, at most `max` bytes after decompression; a longer one is an error, not a prefix.
pub async fn body(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Cut)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
