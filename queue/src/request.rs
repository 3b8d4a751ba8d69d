//! What one job asks of a model: the effective request, with every default applied.
//!
//! Owns the types and their serde form, which is what the job key hashes. Owns no parsing of
//! input lines (that is `jsonl`) and no checks against a model's limits (that is the worker).

use crate::ids::ContentHash;
use crate::response_format::ResponseFormat;
use crate::tools::{ToolChoice, Tools};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Default of [`Params::max_tokens`].
pub const DEFAULT_MAX_TOKENS: u32 = 512;
/// Greatest [`Params::n`] of one request.
pub const MAX_CHOICES: u32 = 16;
/// Greatest [`Params::top_logprobs`] of one request.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Greatest [`Params::schema_retries`]: doubled so often, one token is longer than any context.
pub const MAX_SCHEMA_RETRIES: u8 = 20;
/// Texts of one request for embeddings, as in OpenAI's API.
pub const MAX_EMBED_TEXTS: usize = 2048;

/// The API route a request is meant for; it decides how the input becomes a prompt and what the
/// OpenAI-shaped answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// Messages (or one prompt as a user message), rendered with the model's chat template.
    #[serde(rename = "/v1/chat/completions")]
    ChatCompletions,
    /// A prompt that is continued as it stands.
    #[serde(rename = "/v1/completions")]
    Completions,
    /// A text whose vector is wanted.
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
}

impl Endpoint {
    /// The url as it stands in an OpenAI batch line.
    pub fn url(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Embeddings => "/v1/embeddings",
        }
    }

    /// The endpoint of a url, or `None` for a url that rbee does not know.
    pub fn from_url(url: &str) -> Option<Endpoint> {
        [
            Endpoint::ChatCompletions,
            Endpoint::Completions,
            Endpoint::Embeddings,
        ]
        .into_iter()
        .find(|endpoint| endpoint.url() == url)
    }
}

/// One request to one model. Two requests with equal JSON are equal requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The route.
    pub endpoint: Endpoint,
    /// The model reference as requested (not resolved).
    pub model: String,
    /// Messages or a prompt.
    pub input: Input,
    /// Sampling and output parameters.
    pub params: Params,
}

impl Request {
    /// What equal answers are known by, where equal requests have equal answers: greedy ones, and ones with a seed of
    /// their own. It leaves out the model's name and who asks.
    pub fn work(&self) -> Option<ContentHash> {
        self.is_determined().then(|| ContentHash::of(self, None))
    }

    /// Whether equal requests have equal answers.
    pub fn is_determined(&self) -> bool {
        self.params.temperature == 0.0 || self.params.seed.is_some()
    }
}

/// The text side of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Chat messages. Each has a string `role` and a `content` that is null, a string or an array
    /// of parts of type `text`; all other members are kept as given, for the template.
    Messages(Vec<Map<String, Value>>),
    /// One text.
    Prompt {
        /// The text.
        text: String,
        /// True: continue it as it stands. False: it becomes one user message where the model has
        /// a chat template.
        raw: bool,
    },
    /// Texts whose vectors are wanted.
    Embed {
        /// In order; at least one.
        texts: Vec<EmbedText>,
        /// How many numbers a vector shall have, where that is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dimensions: Option<u32>,
        /// Vectors are shown as base64 of their little-endian f32, not as numbers.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        base64: bool,
    },
}

/// A text whose vector is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbedText {
    /// As a person wrote it.
    Text(String),
    /// As the ids of its tokens: exactly what the model sees.
    Tokens(Vec<u32>),
}

/// Sampling and output parameters with defaults applied. All floats are finite.
///
/// The job key hashes this form: a field added later must be skipped at its default, so that the
/// keys of old lines stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Greatest number of tokens generated for a choice, at least 1.
    pub max_tokens: u32,
    /// 0 is greedy; at most 2.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Number of candidates kept; 0 is off.
    pub top_k: u32,
    /// Least probability relative to the best candidate, in [0, 1]; 0 is off.
    pub min_p: f32,
    /// Multiplicative penalty over 0; 1 is off.
    pub repetition_penalty: f32,
    /// Additive penalty for each earlier occurrence, in [-2, 2]; 0 is off.
    pub frequency_penalty: f32,
    /// Additive penalty for a token that occurred, in [-2, 2]; 0 is off.
    pub presence_penalty: f32,
    /// The line's own seed. `None`: randomness is keyed by the batch's seed and the job key.
    pub seed: Option<u64>,
    /// Texts that end a choice; they are not part of the answer.
    pub stop: Vec<String>,
    /// Token ids that end a choice, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Go on over the model's end-of-sequence tokens.
    pub ignore_eos: bool,
    /// Give the log-probability of every generated token.
    pub logprobs: bool,
    /// Number of alternatives with each log-probability, at most [`MAX_TOP_LOGPROBS`].
    pub top_logprobs: u8,
    /// Number of choices, 1 to [`MAX_CHOICES`].
    pub n: u32,
    /// Control tokens written in a prompt's text are control tokens. Never applies to messages.
    pub parse_special: bool,
    /// Extra variables for the chat template.
    pub chat_template_kwargs: Map<String, Value>,
    /// The form that the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// The tools that may or must be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// How often `max_tokens` is doubled, up to the context, for an answer whose form is not complete by then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schema_retries: u8,
}

impl Params {
    /// Whether the answer must have a form: one that was asked for, or that of a call.
    pub fn has_form(&self) -> bool {
        let must_call = |tools: &Tools| tools.choice != ToolChoice::Auto;
        self.response_format.is_some() || self.tools.as_ref().is_some_and(must_call)
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Default for Params {
    /// Greedy, 512 tokens, one choice, everything else off.
    fn default() -> Self {
        Params {
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: false,
            top_logprobs: 0,
            n: 1,
            parse_special: false,
            chat_template_kwargs: Map::new(),
            response_format: None,
            tools: None,
            schema_retries: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_survives_its_json_form() {
        let request = Request {
            endpoint: Endpoint::Completions,
            model: "smollm2-135m".into(),
            input: Input::Prompt {
                text: "a\u{0}b".into(),
                raw: true,
            },
            params: Params {
                temperature: 0.7,
                seed: Some(u64::MAX),
                ..Params::default()
            },
        };
        let json = serde_json::to_string(&request).unwrap();
        assert!(
            json.starts_with(r#"{"endpoint":"/v1/completions","#),
            "{json}"
        );
        assert!(json.contains(r#""temperature":0.7,"#), "{json}");
        assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request);
    }

    #[test]
    fn only_greedy_and_seeded_requests_have_equal_answers() {
        let request = |temperature, seed| Request {
            endpoint: Endpoint::ChatCompletions,
            model: "m".into(),
            input: Input::Prompt {
                text: "a".into(),
                raw: false,
            },
            params: Params {
                temperature,
                seed,
                ..Params::default()
            },
        };
        assert_eq!(request(0.7, None).work(), None);
        assert_eq!(request(0.0, None).work(), request(0.0, None).work());
        assert!(request(0.7, Some(1)).work().is_some());
        assert_ne!(request(0.7, Some(1)).work(), request(0.7, Some(2)).work());
    }

    #[test]
    fn every_endpoint_is_found_by_its_url() {
        for endpoint in [
            Endpoint::ChatCompletions,
            Endpoint::Completions,
            Endpoint::Embeddings,
        ] {
            assert_eq!(Endpoint::from_url(endpoint.url()), Some(endpoint));
        }
        assert_eq!(Endpoint::from_url("/v1/images"), None);
    }
}
