//! Five hundred JSON schemas as programs write them: twenty-five families of real shapes, each in twenty variants.
//!
//! The same on every machine. What no grammar can hold (`uniqueItems`, `if`) is a family of its own, since people write that
//! too; `refused` says of which families that is.

mod data;
mod shapes;

use crate::random::Random;
use serde_json::Value as Json;

/// Variants of each family.
const VARIANTS: usize = 20;

/// A schema with its name.
pub struct Schema {
    /// `family-variant`
    pub name: String,
    /// Its family.
    pub family: &'static str,
    /// What it is.
    pub schema: Json,
}

/// Makes a variant of a family.
type Make = fn(&mut Random) -> Json;

const FAMILIES: [(&str, Make); 25] = [
    ("contact", data::contact),
    ("invoice", data::invoice),
    ("classification", data::classification),
    ("place", data::place),
    ("codes", data::codes),
    ("formats", data::formats),
    ("numbers", data::numbers),
    ("steps", data::steps),
    ("page", data::page),
    ("quiz", data::quiz),
    ("manifest", data::manifest),
    ("package", data::package),
    ("function", shapes::function),
    ("inherited", shapes::inherited),
    ("event", shapes::event),
    ("tree", shapes::tree),
    ("list", shapes::list),
    ("map", shapes::map),
    ("pattern-map", shapes::pattern_map),
    ("nullable", shapes::nullable),
    ("tuple", shapes::tuple),
    ("constants", shapes::constants),
    ("modelled", shapes::modelled),
    ("nested", shapes::nested),
    ("ungrammatical", shapes::ungrammatical),
];

/// Whether a family is one that no grammar can hold.
pub fn refused(family: &str) -> bool {
    family == "ungrammatical"
}

/// All of them.
pub fn all() -> Vec<Schema> {
    let variants = FAMILIES.iter().flat_map(|(family, make)| {
        let mut random = Random::named(1, family);
        (0..VARIANTS).map(move |variant| Schema {
            name: format!("{family}-{variant}"),
            family,
            schema: make(&mut random),
        })
    });
    variants.collect()
}

/// One of some words.
fn one<'a>(random: &mut Random, words: &[&'a str]) -> &'a str {
    words[random.below(words.len())]
}

/// Some of the words, two at least, in their order.
fn some<'a>(random: &mut Random, words: &[&'a str]) -> Vec<&'a str> {
    let mut left = words.len();
    let mut wanted = 2 + random.below(words.len() - 1);
    let mut taken = Vec::new();
    for word in words {
        if random.below(left) < wanted {
            taken.push(*word);
            wanted -= 1;
        }
        left -= 1;
    }
    taken
}

/// An object of these members. Some that are not named first may be missing.
fn object(members: &[(&str, Json)], needed: usize, random: &mut Random) -> Json {
    let properties = members
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()));
    let names = members.iter().map(|(name, _)| *name);
    let required: Vec<&str> = names
        .enumerate()
        .filter(|(at, _)| *at < needed || random.below(3) > 0)
        .map(|(_, name)| name)
        .collect();
    let mut schema = serde_json::json!({
        "type": "object",
        "properties": properties.collect::<serde_json::Map<_, _>>(),
        "required": required,
    });
    // OpenAI's strict schemas say so; many others do not.
    if random.below(4) > 0 {
        schema["additionalProperties"] = Json::Bool(false);
    }
    schema
}
