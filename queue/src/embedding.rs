//! The vector of a text, and its exact form in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of one number.
const NUMBER_BYTES: usize = size_of::<f32>();

/// The vector of a text. Its JSON form is a third as long as numbers would be, and exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(pub Vec<f32>);

impl Embedding {
    /// Base64 of the little-endian numbers.
    pub fn to_base64(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|x| x.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    }

    /// Reads what [`to_base64`](Self::to_base64) gave.
    pub fn from_base64(text: &str) -> Option<Embedding> {
        let bytes = STANDARD.decode(text).ok()?;
        let (numbers, rest) = bytes.as_chunks::<NUMBER_BYTES>();
        let read = || numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
        rest.is_empty().then(|| Embedding(read().collect()))
    }
}

impl Serialize for Embedding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Embedding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Embedding, D::Error> {
        let text = String::deserialize(deserializer)?;
        Embedding::from_base64(&text)
            .ok_or_else(|| D::Error::custom("a vector is no base64 of f32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_survives_its_text_to_the_bit() {
        let vector = Embedding(vec![0.1, -0.0, f32::MIN_POSITIVE / 2.0, 3.402_823_5e38]);
        let json = serde_json::to_string(&vector).unwrap();
        let back: Embedding = serde_json::from_str(&json).unwrap();
        let bits = |vector: &Embedding| vector.0.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&vector));
        for damaged in [r#""AAA=""#, r#""*""#, "[1.0]"] {
            assert!(
                serde_json::from_str::<Embedding>(damaged).is_err(),
                "{damaged}"
            );
        }
    }
}
