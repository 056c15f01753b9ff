//! Who the user is for a registry: Docker's configuration and its credential helpers.
//!
//! Read here, where the user's home is, and sent with one request. Nothing is kept.

use banger_proto::failure::Kind;
use banger_proto::v1::RegistryCredential;
use docker_credential::{CredentialRetrievalError, DockerCredential};

use crate::error::CliError;

const DOCKER_HUB: &str = "docker.io";

/// What Docker's own files call its registry: a key, never an address that is asked.
fn docker_hub_server() -> String {
    format!("https://index.{DOCKER_HUB}/v1/")
}

/// The registry that a reference names: the first part if that looks like a host, as everywhere.
pub fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => host,
        _ => DOCKER_HUB,
    }
}

/// The user's credential for the registry of `reference`, if there is one.
///
/// # Errors
/// If there is one but it cannot be had or used.
pub async fn find(reference: &str) -> Result<Option<RegistryCredential>, CliError> {
    let registry = registry_of(reference).to_owned();
    let server = if registry == DOCKER_HUB { docker_hub_server() } else { registry.clone() };
    // A helper is a program that may ask the user something.
    let found = tokio::task::spawn_blocking(move || docker_credential::get_credential(&server));
    let failed = |text: String| {
        CliError::new(Kind::Failed, format!("cannot get the credential for the registry {registry}: {text}"))
            .hint(format!("Log in again with `docker login {registry}`."))
    };
    match found.await.map_err(|error| failed(error.to_string()))? {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(RegistryCredential { registry: registry.clone(), user, password }))
        }
        Ok(DockerCredential::IdentityToken(_)) => Err(failed("identity tokens are not supported".to_owned())),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(None),
        // What every helper says when it has nothing; the protocol has no other way.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains("credentials not found") || stderr.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_host_is_a_registry() {
        for (reference, registry) in [
            ("debian", "docker.io"),
            ("library/debian:12", "docker.io"),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("localhost:5000/a:1", "localhost:5000"),
            ("127.0.0.1:5000/a@sha256:0", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry_of(reference), registry, "{reference}");
        }
    }
}
