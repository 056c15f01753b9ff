//! Claims about a registry that speaks TLS with a certificate of one's own making.

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Failure, Kind};

use super::registries::{Registry, assert_is_the_image, from_registry, options, store};
use super::support::tool;
use crate::image::{ImageArtifacts, ImagePullError};
use crate::oci::registry::PullError;
use crate::oci::settings::Settings;
use crate::reporter::Reporter;

/// An authority of one's own, `<name>.pem` and `<name>.key` in `directory`.
fn authority(directory: &Path, name: &str) -> Option<PathBuf> {
    let (key, certificate) = (directory.join(format!("{name}.key")), directory.join(format!("{name}.pem")));
    let subject = format!("/CN=authority {name}");
    let made = tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            key.to_str()?,
            "-out",
            certificate.to_str()?,
        ],
    )?;
    assert!(made.0, "{}", made.1);
    Some(certificate)
}

/// A certificate for `names`, signed by the authority `own`: `server.pem` and `server.key`.
fn certificate(directory: &Path, names: &str) -> Option<()> {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    std::fs::write(at("extensions"), format!("subjectAltName={names}\n")).unwrap();
    let request = tool(
        "openssl",
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=registry",
            "-keyout",
            &at("server.key"),
            "-out",
            &at("server.csr"),
        ],
    )?;
    assert!(request.0, "{}", request.1);
    let signed = tool(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &at("server.csr"),
            "-CA",
            &at("own.pem"),
            "-CAkey",
            &at("own.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &at("extensions"),
            "-out",
            &at("server.pem"),
        ],
    )?;
    assert!(signed.0, "{}", signed.1);
    Some(())
}

/// A registry with a certificate for `names`; the authority's file and another one's.
fn start(names: &str) -> Option<(Registry, PathBuf, PathBuf)> {
    let directory = tempfile::tempdir().unwrap();
    let (own, other) = (authority(directory.path(), "own")?, authority(directory.path(), "other")?);
    certificate(directory.path(), names)?;
    let tls = format!(", tls: {{certificate: {0}/server.pem, key: {0}/server.key}}", directory.path().display());
    Some((Registry::start_with(None, directory, &tls)?, own, other))
}

/// Pulls with this line about the authority in registries.toml.
async fn pull(registry: &Registry, line: &str) -> Result<ImageArtifacts, PullError> {
    let host = format!("127.0.0.1:{}", registry.port);
    let config = tempfile::tempdir().unwrap();
    let text = format!("[registry.\"{host}\"]\nplain_http = false\n{line}\n");
    std::fs::write(config.path().join("registries.toml"), text).unwrap();
    let here = store();
    let images = here.store.clone().with_settings(Settings::load(config.path()).unwrap());
    let source = from_registry(&format!("{host}/team/app:1"), None);
    match images.pull_container(source, options("app"), &Reporter::silent("op")).await {
        Ok(image) => {
            // Before its directory goes.
            assert_is_the_image(&image, registry);
            Ok(image)
        }
        Err(ImagePullError::Fetch { source, .. }) => Err(source),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named_and_nowhere_else() {
    let Some((registry, own, other)) = start("IP:127.0.0.1") else { return };
    let named = |path: &Path| format!("ca = \"{}\"", path.display());
    pull(&registry, &named(&own)).await.unwrap();
    for line in [named(&other), String::new()] {
        let error = pull(&registry, &line).await.unwrap_err();
        assert!(matches!(error, PullError::Untrusted { .. }), "{line}: {error:?}");
        assert_eq!(error.kind(), Kind::Refused);
        let failure = Failure::from_error(&error);
        assert!(failure.chain[0].contains("shows a certificate that is not trusted here"), "{failure}");
        assert!(failure.hints[0].contains("registries.toml") && failure.hints[0].contains("ca ="), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_not_trusted() {
    let Some((registry, own, _)) = start("DNS:elsewhere.example") else { return };
    let error = pull(&registry, &format!("ca = \"{}\"", own.display())).await.unwrap_err();
    assert!(matches!(error, PullError::Untrusted { .. }), "{error:?}");
    assert!(Failure::from_error(&error).to_string().contains("127.0.0.1"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_none_is_told_before_anything_is_sent() {
    let Some((registry, own, _)) = start("IP:127.0.0.1") else { return };
    let key = own.with_extension("key");
    for file in [key.as_path(), Path::new("/nowhere/ca.pem")] {
        let error = pull(&registry, &format!("ca = \"{}\"", file.display())).await.unwrap_err();
        assert!(matches!(error, PullError::Authority { .. }), "{error:?}");
        assert!(error.hints()[0].contains("registries.toml"));
    }
}
