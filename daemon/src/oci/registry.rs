//! A registry: from a reference to a manifest and its blobs. Speaks HTTP through oci-client only.
//!
//! Mirrors come first and get no credentials; the registry itself is asked when they fail. A tag is looked up
//! once and pinned to the digest it has at that moment.

use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use futures::StreamExt as _;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use sha2::{Digest as _, Sha256};

use super::Incoming;
use super::cache::{BlobCache, CacheError};
use super::digest::Digest;
use super::download::{Download, Downloads};
use super::layer::StoredLayer;
use super::manifest::{self, ACCEPTED, Document, ManifestError, Platform};
use super::settings::Settings;
use crate::artifact::{caused_by_full_disk, disk_full_hint};
use crate::reporter::Reporter;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const DOWNLOADS_AT_ONCE: usize = 4;
const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Who somebody is for one registry. Kept for one request, never written anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Host and port.
    pub registry: String,
    /// The name.
    pub user: String,
    /// The secret.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credential").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Why an image did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No answer.
    #[error("cannot reach the registry {registry}")]
    Reach {
        /// Host and port.
        registry: String,
        /// The cause.
        source: OciDistributionError,
    },
    /// Wrong or missing credentials.
    #[error("the registry {registry} denies access to {reference}")]
    Denied {
        /// Host and port.
        registry: String,
        /// What was asked for.
        reference: String,
    },
    /// No such repository, tag, digest or blob.
    #[error("the registry {registry} has no {reference}")]
    NotFound {
        /// Host and port.
        registry: String,
        /// What was asked for.
        reference: String,
    },
    /// An answer nobody can use.
    #[error("the registry {registry} answers with an error")]
    Answer {
        /// Host and port.
        registry: String,
        /// The cause.
        source: OciDistributionError,
    },
    /// Its certificate authority cannot be loaded.
    #[error("cannot read the certificate authority {path} for the registry {registry}", path = path.display())]
    Authority {
        /// Host and port.
        registry: String,
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Its certificate is signed by nobody who is trusted here, or is for another name.
    #[error("the registry {registry} shows a certificate that is not trusted here")]
    Untrusted {
        /// Host and port.
        registry: String,
        /// The cause.
        source: rustls::Error,
    },
    /// The manifest or configuration.
    #[error("the image {reference} cannot be used")]
    Manifest {
        /// Which image.
        reference: String,
        /// The cause.
        source: ManifestError,
    },
    /// Not the bytes that were asked for.
    #[error("the {what} {wanted} arrived with other content: its digest is {found}")]
    Digest {
        /// "manifest", "blob".
        what: &'static str,
        /// Asked for.
        wanted: Digest,
        /// Received.
        found: Digest,
    },
    /// Too few or too many bytes.
    #[error("the blob {digest} has {found} bytes instead of {wanted}")]
    Length {
        /// Which.
        digest: Digest,
        /// Announced.
        wanted: u64,
        /// Received.
        found: u64,
    },
    /// The connection broke again and again.
    #[error("the download of {digest} broke off after {done} of {size} bytes")]
    Interrupted {
        /// Which.
        digest: Digest,
        /// Bytes that are kept for the next attempt.
        done: u64,
        /// Bytes there should be.
        size: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// The cache.
    #[error("cannot keep what was downloaded")]
    Cache(#[from] CacheError),
    /// A file or directory given as the source.
    #[error("cannot read {what} of the image's files")]
    Files {
        /// "index.json" …
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Files, but not those of an image.
    #[error("the files are no usable image: {reason}")]
    NoImage {
        /// Why.
        reason: String,
    },
    /// The user stopped it.
    #[error("the pull was cancelled")]
    Cancelled,
}

impl Classified for PullError {
    fn kind(&self) -> Kind {
        match self {
            Self::Denied { .. } | Self::Untrusted { .. } | Self::Digest { .. } | Self::Length { .. } => Kind::Refused,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Authority { .. } => Kind::HostNotReady,
            Self::Cancelled => Kind::Cancelled,
            Self::Manifest { source: ManifestError::Platform { .. }, .. } => Kind::NotFound,
            Self::Cache(_) if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::Reach { .. }
            | Self::Answer { .. }
            | Self::Manifest { .. }
            | Self::Interrupted { .. }
            | Self::Cache(_)
            | Self::Files { .. }
            | Self::NoImage { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Denied { registry, .. } => {
                vec![format!("Log in with `docker login {registry}`, or check the repository's name.")]
            }
            Self::Reach { registry, .. } => vec![format!(
                "Check it with `curl -I https://{registry}/v2/`; a registry without TLS is named in registries.toml."
            )],
            Self::Untrusted { registry, .. } => vec![format!(
                "If it is yours, name its certificate authority in registries.toml: `[registry.\"{registry}\"]`, \
                 `ca = \"/path/to/ca.pem\"`."
            )],
            Self::Authority { .. } => vec!["Correct `ca` in registries.toml: it names a PEM file.".to_owned()],
            Self::Interrupted { .. } => {
                vec!["Run `banger image pull` again: it goes on where the download broke off.".to_owned()]
            }
            Self::Manifest { source: ManifestError::Platform { .. }, .. } => {
                vec!["Choose another platform with `--platform os/architecture`.".to_owned()]
            }
            Self::Cache(_) => disk_full_hint(self),
            _ => Vec::new(),
        }
    }
}

/// What to pull, and how.
pub struct Request<'a> {
    /// Which image.
    pub reference: Reference,
    /// For which machine.
    pub platform: Platform,
    /// Who asks.
    pub credential: Option<Credential>,
    /// Mirrors, TLS.
    pub settings: &'a Settings,
    /// Where blobs go.
    pub cache: &'a BlobCache,
}

/// Finds the image and begins to download it.
///
/// # Errors
/// The registry's own error, if its mirrors failed too.
pub async fn open(request: Request<'_>, reporter: &Reporter) -> Result<Incoming, PullError> {
    let registry = request.reference.registry().to_owned();
    let mut hosts = request.settings.hosts(&registry).into_iter().peekable();
    while let Some(host) = hosts.next() {
        let opened = tokio::select! {
            opened = open_at(&host, &request, reporter) => opened,
            () = reporter.cancellation().cancelled() => Err(PullError::Cancelled),
        };
        match opened {
            Err(error) if hosts.peek().is_some() && error.kind() != Kind::Cancelled => {
                let failure = banger_proto::failure::Failure::from_error(&error);
                reporter.warning(format!("the mirror {host} does not help: {failure}"));
            }
            opened => return opened,
        }
    }
    Err(PullError::NoImage { reason: format!("{registry} is no registry") })
}

async fn open_at(host: &str, request: &Request<'_>, reporter: &Reporter) -> Result<Incoming, PullError> {
    let mut reference = request.reference.clone();
    let itself = host == reference.registry();
    if !itself {
        reference.set_mirror_registry(host.to_owned());
    }
    let authentication = match &request.credential {
        // A mirror is another party: what is meant for the registry never goes there.
        Some(credential) if itself => RegistryAuth::Basic(credential.user.clone(), credential.password.clone()),
        _ => RegistryAuth::Anonymous,
    };
    let client = client(host, &reference, request.settings)?;
    let fetch = |reference: Reference| {
        let (client, authentication) = (&client, &authentication);
        async move {
            let got = client.pull_manifest_raw(&reference, authentication, &ACCEPTED).await;
            let (bytes, _) = got.map_err(|source| failed(host, &reference, source))?;
            let found = Digest::of_sha256(&Sha256::digest(&bytes));
            match reference.digest().and_then(|text| text.parse::<Digest>().ok()) {
                Some(wanted) if wanted != found => Err(PullError::Digest { what: "manifest", wanted, found }),
                _ => Ok((bytes, found)),
            }
        }
    };
    let unusable = |source| PullError::Manifest { reference: reference.whole(), source };
    reporter.stage("manifest", format!("looking up {}", reference.whole()));
    let (bytes, pinned) = fetch(reference.clone()).await?;
    let (document, digest) = match manifest::parse_document(&bytes, &request.platform).map_err(unusable)? {
        Document::Index(digest) => {
            let mut inner = reference.clone_with_digest(digest.to_string());
            if !itself {
                inner.set_mirror_registry(host.to_owned());
            }
            let (bytes, digest) = fetch(inner).await?;
            (manifest::parse_document(&bytes, &request.platform).map_err(unusable)?, digest)
        }
        document => (document, pinned.clone()),
    };
    let Document::Image { configuration, layers } = document else {
        return Err(PullError::NoImage { reason: "its index contains another index".to_owned() });
    };
    let total = layers.iter().map(|layer| layer.size).sum();
    let downloads = Arc::new(Downloads::new(
        client,
        reference.clone(),
        host.to_owned(),
        request.cache.clone(),
        Download { reporter: reporter.clone(), total },
    ));
    let path = downloads.fetch_quietly(&configuration).await?;
    let bytes = std::fs::read(&path).map_err(CacheError::on("read", &path))?;
    let configuration = manifest::parse_configuration(&bytes, layers.len(), &request.platform).map_err(unusable)?;
    reporter.stage("layers", format!("downloading {} of {}", count(layers.len()), reference.whole()));
    let diff_ids = configuration.diff_ids.clone();
    let fetches = layers.into_iter().zip(diff_ids).map(move |(layer, diff_id)| {
        let downloads = Arc::clone(&downloads);
        async move {
            let file = downloads.fetch(&layer).await?;
            Ok(StoredLayer { file, offset: 0, length: layer.size, diff_id })
        }
    });
    let written = match request.reference.digest() {
        Some(_) => request.reference.whole(),
        None => format!("{}@{pinned}", request.reference.whole()),
    };
    Ok(Incoming {
        source: written,
        digest,
        configuration,
        layers: futures::stream::iter(fetches).buffered(DOWNLOADS_AT_ONCE).boxed(),
    })
}

fn count(layers: usize) -> String {
    if layers == 1 { "one layer".to_owned() } else { format!("{layers} layers") }
}

fn client(host: &str, reference: &Reference, settings: &Settings) -> Result<Client, PullError> {
    // One backend for all TLS; a second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut extra_root_certificates = Vec::new();
    if let Some(path) = settings.ca(host) {
        let authority = |source| PullError::Authority { registry: host.to_owned(), path: path.to_owned(), source };
        let data = std::fs::read(path).map_err(authority)?;
        if !data.windows(PEM_CERTIFICATE.len()).any(|window| window == PEM_CERTIFICATE) {
            return Err(authority(std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no PEM certificate")));
        }
        extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    let protocol = if settings.is_plain(host) {
        ClientProtocol::HttpsExcept(vec![reference.resolve_registry().to_owned()])
    } else {
        ClientProtocol::Https
    };
    let config = ClientConfig {
        protocol,
        extra_root_certificates,
        platform_resolver: None,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("banger/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|source| PullError::Reach { registry: host.to_owned(), source })
}

/// What the library's error means.
pub(super) fn failed(host: &str, reference: &Reference, source: OciDistributionError) -> PullError {
    let registry = host.to_owned();
    let missing =
        [OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound, OciErrorCode::BlobUnknown];
    let denied = [OciErrorCode::Unauthorized, OciErrorCode::Denied];
    match source {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 403, .. } => {
            PullError::Denied { registry, reference: reference.whole() }
        }
        OciDistributionError::RegistryError { ref envelope, .. }
            if envelope.errors.iter().any(|error| denied.contains(&error.code)) =>
        {
            PullError::Denied { registry, reference: reference.whole() }
        }
        OciDistributionError::RegistryError { ref envelope, .. }
            if envelope.errors.iter().any(|error| missing.contains(&error.code)) =>
        {
            PullError::NotFound { registry, reference: reference.whole() }
        }
        OciDistributionError::ServerError { code: 404, .. } | OciDistributionError::ImageManifestNotFoundError(_) => {
            PullError::NotFound { registry, reference: reference.whole() }
        }
        source @ OciDistributionError::RequestError(_) => match untrusted(&source) {
            Some(source) => PullError::Untrusted { registry, source },
            None => PullError::Reach { registry, source },
        },
        source => PullError::Answer { registry, source },
    }
}

/// The certificate's own error, if there is one anywhere in the chain.
fn untrusted(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        // An I/O error tells the source of what it wraps, but not the wrapped error itself.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(found @ rustls::Error::InvalidCertificate(_)) = found {
            return Some(found.clone());
        }
        at = error.source().or_else(|| wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)));
    }
    None
}
