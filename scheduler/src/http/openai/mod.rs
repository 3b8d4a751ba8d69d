//! OpenAI's API: chats and completions, models, files, and batches that are made of files.
//!
//! Owns what its clients send and what they get. Jobs, their results and their lines are those of every other batch; where
//! both APIs name the same thing, as with batches, one object serves both.
//!
//! | route | file |
//! |---|---|
//! | `POST /v1/chat/completions`, `POST /v1/completions` | `chat`, `chunks`, `prompts` |
//! | `POST /v1/embeddings` | `embeddings` |
//! | `GET /v1/models`, `GET /v1/models/{id}` | `models` |
//! | `POST /v1/files` | `upload` |
//! | `GET /v1/files`, `GET`, `DELETE /v1/files/{id}` | `files` |
//! | `GET /v1/files/{id}/content` | `content` |
//! | `POST /v1/batches` with a body of JSON | `batches` |

mod batches;
mod body;
mod chat;
mod chunks;
mod content;
mod embeddings;
mod files;
mod models;
mod prompts;
mod upload;
mod window;

pub use batches::create_batch;
pub use body::read_object;
pub use chat::{chat_completions, completions};
pub use content::content;
pub use embeddings::embeddings;
pub use files::{list, remove, show};
pub use models::{list as list_models, show as show_model};
pub use prompts::MAX_PROMPTS;
pub use upload::upload;
