//! CLIP's vocabulary, which is the same in every published model, for checkpoints that come without one: 49408 tokens, which
//! all follow from the list of merges, as OpenAI's own tokenizer derives them.

use std::fmt::Write as _;

use crate::error::{Error, Result};

#[cfg(not(target_arch = "wasm32"))]
#[path = "vocabulary/native.rs"]
mod built_in;
#[cfg(target_arch = "wasm32")]
#[path = "vocabulary/browser.rs"]
mod built_in;

pub use built_in::built_in;

/// Merges that CLIP has.
const N_MERGES: usize = 48_894;

/// The 256 bytes as characters that can be printed, in the order of their ids: those of Latin-1 that have a form are
/// themselves, the others follow from U+0100 on.
fn byte_characters() -> impl Iterator<Item = char> + Clone {
    let printed = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    let others = (0..68).filter_map(|n| char::from_u32(0x100 + n));
    printed.chain(others)
}

/// The text of `vocab.json` that belongs to CLIP's `merges.txt`.
///
/// # Errors
/// [`Error::Tokenizer`] where it is not CLIP's.
pub fn vocab_json(merges: &str) -> Result<String> {
    let lines: Vec<&str> = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    if lines.len() != N_MERGES {
        let reason = format!("CLIP has {N_MERGES} merges, and these are {}", lines.len());
        return Err(Error::Tokenizer { file: "clip_merges.txt".into(), reason });
    }
    let bytes = byte_characters().map(String::from);
    let ends = byte_characters().map(|c| format!("{c}</w>"));
    let merged = lines.iter().map(|line| line.replace(' ', ""));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let mut json = String::from("{");
    for (id, token) in bytes.chain(ends).chain(merged).chain(special).enumerate() {
        let comma = if id == 0 { "" } else { "," };
        // Quotes and backslashes are the only characters here that JSON escapes.
        let token = token.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(json, "{comma}\"{token}\":{id}");
    }
    json.push('}');
    Ok(json)
}

/// `special_tokens_map.json` of a tokenizer that pads with `pad`.
#[must_use]
pub fn special_tokens_map(pad: &str) -> String {
    let token = |text: &str| {
        serde_json::json!({
            "content": text, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false
        })
    };
    let end = token("<|endoftext|>");
    let map = serde_json::json!({
        "bos_token": token("<|startoftext|>"), "eos_token": end, "unk_token": end, "pad_token": pad
    });
    map.to_string()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::tokenizer::{Tokenizer, TokenizerConfig, TokenizerFiles};

    #[test]
    fn ids_are_clips_own() {
        let map = special_tokens_map("!");
        let files = TokenizerFiles {
            tokenizer_config: None,
            special_tokens_map: Some(&map),
            added_tokens: None,
            tokenizer: None,
        };
        let config = TokenizerConfig::from_files(&files).unwrap();
        let tokenizer =
            Tokenizer::new(&vocab_json(built_in().unwrap()).unwrap(), built_in().unwrap(), &config).unwrap();
        // As transformers' CLIPTokenizer of openai/clip-vit-large-patch14 gives them.
        let ids = tokenizer.encode("a photo of a cat").unwrap().ids;
        assert_eq!(ids[..8], [49406, 320, 1125, 539, 320, 2368, 49407, 0]);
        assert!(vocab_json("#version: 0.2\na b\n").is_err());
    }
}
