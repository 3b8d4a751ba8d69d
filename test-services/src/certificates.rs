//! Certificates of a test's own authority: one for servers on this machine, one for their clients.

use crate::folder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::PathBuf;

/// The authority's and the others' files, as PEM. They go with this.
pub struct Certificates {
    dir: tempfile::TempDir,
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}

impl Certificates {
    /// Makes them.
    pub fn new() -> Certificates {
        let dir = folder::temporary();
        let mut authority = params("authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("it can be signed");
        let made = Certificates { dir };
        made.keep("ca.pem", &authority.pem());
        for name in ["server", "client"] {
            let own = key();
            let signed = params(name, &["localhost", "127.0.0.1"]).signed_by(&own, &authority);
            made.keep(
                &format!("{name}.pem"),
                &signed.expect("it can be signed").pem(),
            );
            made.keep(&format!("{name}.key"), &own.serialize_pem());
        }
        made
    }

    /// A file: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a file as text, for flags and URLs.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn keep(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("the folder can be written");
    }
}

/// Who it is about, and under which names a server is reached. One that is called like its authority would count as
/// signed by itself.
fn params(who: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("these are names");
    params.distinguished_name.push(DnType::CommonName, who);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}
