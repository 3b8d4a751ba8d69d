//! The job files of the comparisons: made up, the same on every machine.
//!
//! They ask for a fixed number of tokens whatever the model says, so that every engine does the same work.

use clap::ValueEnum;
use serde_json::{Value as Json, json};

/// What a job file is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JobKind {
    /// Raw prompts of 20 to 200 tokens, 64 new tokens each
    Mixed,
    /// One system prompt of about 600 tokens before short questions, 32 new tokens each
    Prefix,
}

/// The seed of all job files.
const SEED: u64 = 7;
/// English has about this many characters a token.
const CHARS_PER_TOKEN: f64 = 4.3;
const MIXED_TOKENS: std::ops::RangeInclusive<usize> = 20..=200;
const SYSTEM_TOKENS: usize = 600;
const QUESTION_TOKENS: usize = 20;

const ARTICLES: [&str; 6] = ["the", "a", "every", "this", "another", "no"];
const ADJECTIVES: [&str; 20] = [
    "small", "old", "quiet", "careful", "open", "sudden", "common", "heavy", "recent", "simple",
    "distant", "useful", "narrow", "bright", "official", "empty", "gentle", "complete", "northern",
    "familiar",
];
const NOUNS: [&str; 40] = [
    "river",
    "letter",
    "garden",
    "winter",
    "engine",
    "window",
    "island",
    "market",
    "teacher",
    "storm",
    "village",
    "candle",
    "harbour",
    "number",
    "orchard",
    "paper",
    "question",
    "answer",
    "shadow",
    "journey",
    "valley",
    "machine",
    "bridge",
    "doctor",
    "kitchen",
    "forest",
    "museum",
    "song",
    "river bank",
    "railway",
    "computer",
    "program",
    "morning",
    "history",
    "language",
    "mountain",
    "newspaper",
    "ocean",
    "picture",
    "school",
];
const VERBS: [&str; 20] = [
    "follows",
    "carries",
    "remembers",
    "crosses",
    "explains",
    "repairs",
    "watches",
    "replaces",
    "describes",
    "reaches",
    "leaves",
    "protects",
    "changes",
    "measures",
    "visits",
    "covers",
    "returns to",
    "waits for",
    "depends on",
    "belongs to",
];
const JOINTS: [&str; 10] = [
    "because", "although", "before", "after", "while", "when", "and", "but", "so that", "until",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    fn clause(&mut self) -> String {
        let mut noun = || {
            let (article, noun) = (self.one_of(&ARTICLES), self.one_of(&NOUNS));
            match self.below(2) {
                0 => format!("{article} {noun}"),
                _ => format!("{article} {} {noun}", self.one_of(&ADJECTIVES)),
            }
        };
        let (subject, object) = (noun(), noun());
        format!("{subject} {} {object}", self.one_of(&VERBS))
    }

    fn sentence(&mut self) -> String {
        let mut sentence = self.clause();
        if self.below(3) > 0 {
            sentence = format!("{sentence} {} {}", self.one_of(&JOINTS), self.clause());
        }
        let first = sentence.remove(0).to_ascii_uppercase();
        format!("{first}{sentence}.")
    }

    /// Sentences of about this many tokens, cut at a word.
    fn passage(&mut self, tokens: usize) -> String {
        let characters = (tokens as f64 * CHARS_PER_TOKEN) as usize;
        let mut text = self.sentence();
        while text.len() < characters {
            text = format!("{text} {}", self.sentence());
        }
        text.truncate(characters);
        let end = text.rfind(' ').unwrap_or(text.len());
        text.truncate(end);
        text
    }
}

/// The requests of a job file.
pub fn requests(kind: JobKind, count: usize) -> Vec<Json> {
    let mut random = Random(SEED);
    let system = random.passage(SYSTEM_TOKENS);
    (0..count)
        .map(|number| match kind {
            JobKind::Mixed => {
                let length = MIXED_TOKENS.end() - MIXED_TOKENS.start() + 1;
                let tokens = MIXED_TOKENS.start() + random.below(length);
                json!({"id": format!("r{number}"), "prompt": random.passage(tokens), "raw": true,
                       "max_tokens": 64, "temperature": 0, "ignore_eos": true})
            }
            JobKind::Prefix => {
                let question = format!("In one sentence: {}?", random.passage(QUESTION_TOKENS));
                json!({"id": format!("s{number}"), "max_tokens": 32, "temperature": 0, "ignore_eos": true,
                       "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]})
            }
        })
        .collect()
}

/// The job file.
pub fn lines(kind: JobKind, count: usize) -> String {
    let requests = requests(kind, count);
    requests.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_every_time_and_their_lines_differ() {
        for kind in [JobKind::Mixed, JobKind::Prefix] {
            assert_eq!(lines(kind, 40), lines(kind, 40));
            let mut requests = requests(kind, 40);
            for request in &mut requests {
                request["id"] = Json::Null;
            }
            let mut texts: Vec<String> = requests.iter().map(Json::to_string).collect();
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), 40, "{kind:?}");
        }
    }
}
