//! Which files of a repository or directory make the model: a pure choice over file names.

use crate::gguf::SplitName;
use crate::safetensors::{INDEX_FILE, is_weight_file};

use super::error::ModelError;
use super::safe_name::base_name;

/// Tried in this order when a repository has several GGUF files: a good middle of size and quality first.
const PREFERRED_QUANTS: [&str; 10] = [
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q5_K_S", "Q8_0", "Q6_K", "Q4_1", "F16", "BF16",
];
/// Files beside the weights that make a safetensors model; those that are missing are left out.
const SIDE_FILES: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    POOLING_FILE,
];
/// How a model of embeddings makes one vector of many, as repositories have it.
pub const POOLING_FILE: &str = "1_Pooling/config.json";
/// The same beside a model's other files.
pub const POOLING_NAME: &str = "pooling_config.json";
/// The side files without which nothing can be loaded.
const NEEDED_SIDE_FILES: [&str; 2] = ["config.json", "tokenizer.json"];
/// How many names a refusal lists.
const LISTED_NAMES_MAX: usize = 40;

/// The files of a model, as paths in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// One file, or the parts of a split one in order.
    Gguf(Vec<String>),
    Safetensors {
        /// Configuration, tokenizer and, if there is one, the index.
        side_files: Vec<String>,
        has_index: bool,
    },
}

/// Chooses for a reference without a file name.
pub fn choose(repo: &str, paths: &[&str]) -> Result<Choice, ModelError> {
    let models = gguf_models(paths);
    match models.as_slice() {
        [] => choose_safetensors(repo, paths),
        [only] => complete_split(repo, only, paths),
        several => {
            let preferred = PREFERRED_QUANTS
                .iter()
                .find_map(|quant| sole_match(several, quant));
            match preferred {
                Some(path) => complete_split(repo, path, paths),
                None => Err(ModelError::Ambiguous {
                    repo: repo.to_owned(),
                    files: listed(several),
                }),
            }
        }
    }
}

/// Chooses the file that the reference names.
pub fn choose_named(repo: &str, file: &str, paths: &[&str]) -> Result<Choice, ModelError> {
    let nothing = |reason: String| ModelError::NothingUsable {
        repo: repo.to_owned(),
        reason,
    };
    if !file.ends_with(".gguf") {
        let reason = format!("{file} is no .gguf file; for safetensors leave ::{file} off");
        return Err(nothing(reason));
    }
    if !paths.contains(&file) {
        let models = gguf_models(paths);
        let there = if models.is_empty() {
            "no GGUF file".to_owned()
        } else {
            listed(&models)
        };
        return Err(nothing(format!("it has no file {file}; there is {there}")));
    }
    complete_split(repo, file, paths)
}

/// All GGUF models: single files, and the first part of each split one.
fn gguf_models<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let mut models: Vec<&str> = paths
        .iter()
        .copied()
        .filter(|path| path.ends_with(".gguf"))
        .filter(|path| {
            let name = base_name(path).to_ascii_lowercase();
            // Vision projectors and importance matrices are no language models.
            !name.starts_with("mmproj") && !name.contains("imatrix")
        })
        .filter(|path| SplitName::parse(base_name(path)).is_none_or(|split| split.number == 1))
        .collect();
    models.sort_unstable();
    models
}

/// The one model whose name has the quantisation as a whole word.
fn sole_match<'a>(models: &[&'a str], quant: &str) -> Option<&'a str> {
    let mut matching = models
        .iter()
        .filter(|path| has_word(&base_name(path).to_ascii_uppercase(), quant));
    match (matching.next(), matching.next()) {
        (Some(path), None) => Some(path),
        _ => None,
    }
}

fn has_word(name: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    name.match_indices(word).any(|(at, _)| {
        edge(name[..at].chars().next_back()) && edge(name[at + word.len()..].chars().next())
    })
}

fn complete_split(repo: &str, path: &str, paths: &[&str]) -> Result<Choice, ModelError> {
    let name = base_name(path);
    let Some(split) = SplitName::parse(name) else {
        return Ok(Choice::Gguf(vec![path.to_owned()]));
    };
    let directory = &path[..path.len() - name.len()];
    let parts: Vec<String> = (1..=split.count)
        .map(|number| format!("{directory}{}", split.sibling(number)))
        .collect();
    match parts.iter().find(|part| !paths.contains(&part.as_str())) {
        Some(missing) => Err(ModelError::NothingUsable {
            repo: repo.to_owned(),
            reason: format!("{missing} is missing, a part of the split model {path}"),
        }),
        None => Ok(Choice::Gguf(parts)),
    }
}

fn choose_safetensors(repo: &str, paths: &[&str]) -> Result<Choice, ModelError> {
    let nothing = |reason: &str| ModelError::NothingUsable {
        repo: repo.to_owned(),
        reason: reason.to_owned(),
    };
    let has_index = paths.contains(&INDEX_FILE);
    if !has_index && !paths.iter().any(|path| is_weight_file(path)) {
        return Err(nothing(
            "there is neither a GGUF file nor a safetensors file in it",
        ));
    }
    for needed in NEEDED_SIDE_FILES {
        if !paths.contains(&needed) {
            return Err(nothing(&format!(
                "it has safetensors files but no {needed}"
            )));
        }
    }
    let mut side_files: Vec<String> = SIDE_FILES
        .iter()
        .filter(|name| paths.contains(name))
        .map(|name| (*name).to_owned())
        .collect();
    if has_index {
        side_files.push(INDEX_FILE.to_owned());
    }
    Ok(Choice::Safetensors {
        side_files,
        has_index,
    })
}

/// The plain name under which a file of a repository is kept.
pub fn plain_name(path: &str) -> &str {
    match path {
        POOLING_FILE => POOLING_NAME,
        path => base_name(path),
    }
}

fn listed(paths: &[&str]) -> String {
    let mut text = paths
        .iter()
        .take(LISTED_NAMES_MAX)
        .map(|path| format!("::{path}"))
        .collect::<Vec<_>>()
        .join(", ");
    if paths.len() > LISTED_NAMES_MAX {
        text.push_str(&format!(" and {} more", paths.len() - LISTED_NAMES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gguf(paths: &[&str]) -> Vec<String> {
        match choose("o/r", paths).unwrap() {
            Choice::Gguf(files) => files,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_gguf_file_is_taken() {
        assert_eq!(
            gguf(&["README.md", "mmproj-m.gguf", "m.IQ2_XS.gguf"]),
            ["m.IQ2_XS.gguf"]
        );
    }

    #[test]
    fn usual_quantisation_is_preferred_and_whole_words_count() {
        assert_eq!(
            gguf(&["m.Q8_0.gguf", "m.Q4_K_M.gguf", "m.Q2_K.gguf"]),
            ["m.Q4_K_M.gguf"]
        );
        assert_eq!(gguf(&["m-q8_0.gguf", "m-iq4_xs.gguf"]), ["m-q8_0.gguf"]);
        assert_eq!(gguf(&["m.BF16.gguf", "m.IQ1_S.gguf"]), ["m.BF16.gguf"]);
        assert_eq!(
            gguf(&["m.UD-Q4_K_M.gguf", "m.IQ1_S.gguf"]),
            ["m.UD-Q4_K_M.gguf"]
        );
    }

    #[test]
    fn several_without_a_usual_one_are_listed() {
        let error = choose("o/r", &["a.IQ1_S.gguf", "b.IQ2_S.gguf"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("::a.IQ1_S.gguf") && error.contains("::b.IQ2_S.gguf"),
            "{error}"
        );
        assert!(choose("o/r", &["a.Q4_K_M.gguf", "b.Q4_K_M.gguf"]).is_err());
    }

    #[test]
    fn split_model_counts_as_one_and_must_be_whole() {
        let parts = [
            "q/m-Q4_K_M-00001-of-00002.gguf",
            "q/m-Q4_K_M-00002-of-00002.gguf",
        ];
        assert_eq!(gguf(&[parts[1], parts[0], "m-Q8_0.gguf"]), parts);
        let error = choose("o/r", &[parts[0]]).unwrap_err().to_string();
        assert!(error.contains("q/m-Q4_K_M-00002-of-00002.gguf"), "{error}");
        assert_eq!(
            choose_named("o/r", parts[1], &parts).unwrap(),
            Choice::Gguf(parts.map(str::to_owned).to_vec()),
            "any part names the whole"
        );
    }

    #[test]
    fn safetensors_are_taken_when_there_is_no_gguf() {
        let paths = [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
        ];
        let side_files = vec!["config.json".to_owned(), "tokenizer.json".to_owned()];
        assert_eq!(
            choose("o/r", &paths).unwrap(),
            Choice::Safetensors {
                side_files,
                has_index: false
            }
        );
        let error = choose("o/r", &["config.json", "model.safetensors"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        assert!(choose("o/r", &["pytorch_model.bin"]).is_err());
    }

    #[test]
    fn named_file_must_exist_and_be_gguf() {
        assert!(choose_named("o/r", "model.safetensors", &["model.safetensors"]).is_err());
        let error = choose_named("o/r", "x.gguf", &["y.gguf"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("::y.gguf"), "{error}");
    }
}
