//! What can go wrong with chat templates.

/// Why a conversation cannot become a prompt.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The model has no template.
    #[error(
        "the model has no chat template, so it cannot answer messages; give it a \"prompt\" to continue, \
         or use an instruction-tuned model"
    )]
    Absent,
    /// The template cannot be used at all.
    #[error("the model's chat template cannot be used: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
    /// The template itself refuses the conversation (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template used up the work, memory or depth it is given.
    #[error("the model's chat template takes too much work on this conversation: {why}")]
    TooMuch {
        /// Which limit it ran into.
        why: String,
    },
    /// The template stopped with an error.
    #[error("the model's chat template fails on this conversation: {why}")]
    Failed {
        /// The error, with the template's line.
        why: String,
    },
}
