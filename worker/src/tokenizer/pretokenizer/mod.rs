//! Cutting text into the words within which BPE merges.
//!
//! Owns which `tokenizer.ggml.pre` name means which patterns. A name that is not here is refused:
//! cutting by a guess would give tokens that the model has never seen.

mod classes;
mod patterns;

use patterns::{CasedWord, ModernWord};

/// One pattern; matches and the text between matches are both pieces for the next one.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A plain matcher.
    Run(fn(&str, usize) -> Option<usize>),
    /// A pattern of the GPT-4 family.
    Modern(ModernWord),
    /// A pattern that cuts at capital letters.
    Cased(CasedWord),
}

impl Stage {
    fn match_at(self, text: &str, at: usize) -> Option<usize> {
        match self {
            Stage::Run(matcher) => matcher(text, at),
            Stage::Modern(word) => word.match_at(text, at),
            Stage::Cased(word) => word.match_at(text, at),
        }
    }
}

const GPT2: Stage = Stage::Run(patterns::gpt2_word);
const LLAMA3: Stage = Stage::Modern(ModernWord {
    digits: 3,
    marks: false,
    breaks: true,
});
const QWEN2: Stage = Stage::Modern(ModernWord {
    digits: 1,
    marks: false,
    breaks: true,
});
const QWEN35: Stage = Stage::Modern(ModernWord {
    digits: 1,
    marks: true,
    breaks: true,
});
const SEED: Stage = Stage::Modern(ModernWord {
    digits: 1,
    marks: false,
    breaks: false,
});
const MINICPM: Stage = Stage::Modern(ModernWord {
    digits: usize::MAX,
    marks: false,
    breaks: true,
});
const TEKKEN: Stage = Stage::Cased(CasedWord {
    digits: 1,
    contractions: false,
});
const GPT4O: Stage = Stage::Cased(CasedWord {
    digits: 3,
    contractions: true,
});

/// One kind of pre-tokenizer, with the names it goes by.
struct Kind {
    names: &'static [&'static str],
    stages: &'static [Stage],
    /// A whole word that is a token is taken as it is, without merging.
    ignore_merges: bool,
    /// BOS is added unless the metadata says otherwise.
    add_bos: bool,
}

const KINDS: &[Kind] = &[
    Kind {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        stages: &[Stage::Run(patterns::one_number), GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
        ],
        stages: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        stages: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Kind {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        stages: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        stages: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["qwen35"],
        stages: &[QWEN35],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["seed-coder"],
        stages: &[SEED],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["minicpm5"],
        stages: &[Stage::Run(patterns::three_numbers), MINICPM],
        ignore_merges: true,
        add_bos: false,
    },
    Kind {
        names: &["tekken"],
        stages: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
    },
    Kind {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        stages: &[GPT4O],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["deepseek-coder"],
        stages: &[
            Stage::Run(patterns::one_break),
            Stage::Run(patterns::spaced_letters),
            Stage::Run(patterns::spaced_punctuation),
            Stage::Run(patterns::east_asian),
            Stage::Run(patterns::one_number),
        ],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["falcon"],
        stages: &[
            Stage::Run(patterns::falcon_punctuation),
            GPT2,
            Stage::Run(patterns::three_digits),
        ],
        ignore_merges: false,
        add_bos: false,
    },
    Kind {
        names: &["default"],
        stages: &[
            Stage::Run(patterns::punctuation),
            GPT2,
            Stage::Run(patterns::all_numbers),
            Stage::Run(patterns::three_digits),
        ],
        ignore_merges: false,
        add_bos: false,
    },
];

/// A pre-tokenizer of a model.
#[derive(Clone, Copy)]
pub(super) struct PreTokenizer {
    kind: &'static Kind,
}

impl PreTokenizer {
    /// The pre-tokenizer that goes by `name` in GGUF metadata.
    pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
        KINDS
            .iter()
            .find(|kind| kind.names.contains(&name))
            .map(|kind| PreTokenizer { kind })
    }

    /// Every name there is, comma-separated.
    pub(super) fn names() -> String {
        let names: Vec<&str> = KINDS
            .iter()
            .flat_map(|kind| kind.names.iter().copied())
            .collect();
        names.join(", ")
    }

    /// Whether a word that is a token is taken whole, whatever the merges say.
    pub(super) fn ignores_merges(self) -> bool {
        self.kind.ignore_merges
    }

    /// Whether BOS is added where the metadata does not say.
    pub(super) fn adds_bos(self) -> bool {
        self.kind.add_bos
    }

    /// Calls `word` with every word of `text`, in order; together they are the text.
    pub(super) fn split(self, text: &str, word: &mut dyn FnMut(&str)) {
        split_stages(self.kind.stages, text, word);
    }
}

fn split_stages(stages: &[Stage], text: &str, word: &mut dyn FnMut(&str)) {
    let Some((stage, rest)) = stages.split_first() else {
        if !text.is_empty() {
            word(text);
        }
        return;
    };
    let mut gap = 0;
    let mut at = 0;
    while at < text.len() {
        match stage.match_at(text, at) {
            Some(end) => {
                split_stages(rest, &text[gap..at], word);
                split_stages(rest, &text[at..end], word);
                gap = end;
                at = end;
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    split_stages(rest, &text[gap..], word);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
