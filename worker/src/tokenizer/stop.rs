//! Which tokens end an answer, beyond what the metadata says: by the names under which they are
//! published, since many files leave the ids out.

/// Tokens that end a turn or a text wherever they exist.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
];

/// Whether a token of this name ends an answer, and so is a control token whatever its type says.
pub(super) fn ends_answer(name: &str) -> bool {
    END_NAMES.contains(&name)
}

/// In vocabularies with messages inside an answer (`<|return|>` and `<|call|>`, or `<|calls|>` and
/// `<|flush|>`, exist), `<|end|>` ends such a message, not the answer.
pub(super) fn end_is_inner(exists: impl Fn(&str) -> bool) -> bool {
    let call = exists("<|call|>") || exists("<|calls|>");
    call && (exists("<|return|>") || exists("<|flush|>"))
}
