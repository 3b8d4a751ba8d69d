//! A `config.json` made into what candle's configurations want: they take no missing key where Hugging Face has a
//! default, and pass over keys that change the numbers.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The configuration of a model, being completed.
#[derive(Debug, Clone)]
pub struct HfConfig(Map<String, Value>);

impl HfConfig {
    /// Takes over what is common to all models: the rotary base, the number of key-value heads, no window beyond the
    /// context.
    ///
    /// # Errors
    /// A clause when the rotary embedding is scaled, which none of these models of candle's computes.
    pub fn new(config: &Map<String, Value>) -> Result<HfConfig, String> {
        let mut config = HfConfig(config.clone());
        for key in ["rope_parameters", "rope_scaling"] {
            if let Some(Value::Object(rope)) = config.0.remove(key) {
                config.plain_rope(&rope)?;
            }
        }
        let heads = config.needed("num_attention_heads")?;
        config.default("num_key_value_heads", heads.into());
        config.default("rope_theta", 10_000.0.into());
        config.default("attention_bias", false.into());
        config.set("use_cache", true.into());
        config.set("use_flash_attn", false.into());
        Ok(config)
    }

    fn plain_rope(&mut self, rope: &Map<String, Value>) -> Result<(), String> {
        let kind = ["rope_type", "type"]
            .iter()
            .find_map(|key| rope.get(*key)?.as_str());
        if let Some(kind) = kind.filter(|kind| *kind != "default") {
            return Err(format!(
                "its rotary embedding is scaled by `{kind}`, which candle does not know here"
            ));
        }
        for key in ["rope_theta", "partial_rotary_factor"] {
            if let Some(value) = rope.get(key).filter(|value| value.is_number()) {
                self.default(key, value.clone());
            }
        }
        Ok(())
    }

    /// Sets a value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// Sets a value where there is none or null.
    pub fn default(&mut self, key: &str, value: Value) {
        if self.0.get(key).is_none_or(Value::is_null) {
            self.set(key, value);
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    pub fn integer(&self, key: &str) -> Option<usize> {
        self.0
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|x| usize::try_from(x).ok())
    }

    /// # Errors
    /// A clause that names the missing number.
    pub fn needed(&self, key: &str) -> Result<usize, String> {
        self.integer(key)
            .ok_or_else(|| format!("its config.json lacks the number {key}"))
    }

    pub fn float(&self, key: &str) -> Option<f64> {
        self.0.get(key).and_then(Value::as_f64)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether a key is there with something in it: not null, false, 0 or empty.
    pub fn says(&self, key: &str) -> bool {
        match self.0.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::String(_) | Value::Object(_)) => true,
        }
    }

    /// # Errors
    /// A clause that names the first of these keys that the configuration uses.
    pub fn refuse(&self, keys: &[&str]) -> Result<(), String> {
        match keys.iter().find(|key| self.says(key)) {
            None => Ok(()),
            Some(key) => Err(format!(
                "its config.json sets {key}, which candle does not know here"
            )),
        }
    }

    /// # Errors
    /// A clause when heads are not as wide as hidden size and number of heads say.
    pub fn usual_heads(&self) -> Result<(), String> {
        let usual = self.needed("hidden_size")? / self.needed("num_attention_heads")?.max(1);
        match self.integer("head_dim") {
            Some(head) if head != usual => Err(format!(
                "its heads are {head} wide, and candle knows only {usual} here"
            )),
            _ => Ok(()),
        }
    }

    /// Ends the context where a window would begin to hide something: up to there a model with windows is the same as
    /// one without, and beyond it candle's masks forget the window while they generate.
    pub fn end_at_window(&mut self) {
        if let Some(window) = self.integer("sliding_window").filter(|window| *window > 0) {
            let context = self.integer("max_position_embeddings").unwrap_or(window);
            self.set("max_position_embeddings", context.min(window).into());
        }
    }

    /// As candle's configuration type.
    ///
    /// # Errors
    /// What does not fit it.
    pub fn parse<T: DeserializeOwned>(self) -> candle_core::Result<T> {
        serde_json::from_value(Value::Object(self.0))
            .map_err(|error| candle_core::Error::msg(format!("config.json: {error}")))
    }
}
