//! What a URL says about TLS: whom the client trusts, and who it is.
//!
//! Without parameters the system's authorities are trusted (`SSL_CERT_FILE` names others for the whole process). The
//! parameters name PEM files, and are called as redis-py calls them: `ssl_ca_certs` (the authorities to trust instead),
//! `ssl_certfile` and `ssl_keyfile` (the client's own certificate, which a Redis server asks for unless it has
//! `tls-auth-clients no`). Paths are taken as they are written.

use redis::{ClientTlsConfig, TlsCertificates};

/// The certificates that the parameters of a URL name; `None` where there are none.
///
/// # Errors
/// A sentence: a parameter that is none, parameters without TLS, or a file that cannot be read.
pub fn certificates(secure: bool, parameters: &str) -> Result<Option<TlsCertificates>, String> {
    let (mut authority, mut certificate, mut key) = (None, None, None);
    for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
        let (name, path) = parameter.split_once('=').unwrap_or((parameter, ""));
        let known = match name {
            "ssl_ca_certs" => &mut authority,
            "ssl_certfile" => &mut certificate,
            "ssl_keyfile" => &mut key,
            _ => {
                return Err(format!(
                    "{name} is no parameter of it: there are ssl_ca_certs, ssl_certfile and ssl_keyfile"
                ));
            }
        };
        if !secure {
            return Err(format!(
                "{name} is for TLS, and the URL begins with redis: write rediss"
            ));
        }
        let read = std::fs::read(path);
        *known = Some(read.map_err(|error| format!("{name}={path}: {error}"))?);
    }
    let client_tls = match (certificate, key) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
            client_cert,
            client_key,
        }),
        (None, None) => None,
        _ => return Err("ssl_certfile and ssl_keyfile belong together".to_owned()),
    };
    let some = authority.is_some() || client_tls.is_some();
    Ok(some.then_some(TlsCertificates {
        client_tls,
        root_cert: authority,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_name_files_and_are_for_tls_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        assert!(certificates(false, "").unwrap().is_none());
        assert!(certificates(true, "").unwrap().is_none());
        let found = certificates(true, &format!("ssl_ca_certs={path}"))
            .unwrap()
            .unwrap();
        assert!(found.root_cert.is_some() && found.client_tls.is_none());
        let both = format!("ssl_certfile={path}&ssl_keyfile={path}");
        let found = certificates(true, &both).unwrap().unwrap();
        assert!(found.root_cert.is_none() && found.client_tls.is_some());
        let refused =
            |secure: bool, parameters: &str| certificates(secure, parameters).unwrap_err();
        assert!(refused(false, &both).contains("rediss"));
        assert!(refused(true, &format!("ssl_keyfile={path}")).contains("belong together"));
        assert!(refused(true, "ssl_ca_certs=/no/such/file").contains("/no/such/file"));
        assert!(refused(true, "sslrootcert=x").contains("ssl_ca_certs"));
    }
}
