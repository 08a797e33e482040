//! What the writer of a file says about it, in short: Stability's `modelspec`, kohya's `ss_` words, the tags that a LoRA was
//! trained with.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// How many tags are kept.
const MAX_TAGS: usize = 20;

/// How much of a tag or a title is kept, in characters.
const MAX_WORD_CHARS: usize = 100;

/// How much of a description is kept, in characters.
const MAX_DESCRIPTION_CHARS: usize = 300;

/// What the writer of a file says about it, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "InspectedAbout"))]
pub struct About {
    /// The class of the pipeline, of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The title, or the name that it was trained under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The model that it was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The size of the pictures that it was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// The words that call for it in a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The tags that it was trained with and how often each came, most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<(String, u64)>>"))]
    pub tags: Vec<(String, u64)>,
}

impl About {
    pub(super) fn of(metadata: &BTreeMap<String, String>) -> Self {
        let of = |keys: &[&str], most: usize| {
            let said = keys.iter().filter_map(|key| metadata.get(*key)).map(|text| short(text, most));
            said.into_iter().find(|text| !text.is_empty() && text != "None")
        };
        let word = |keys: &[&str]| of(keys, MAX_WORD_CHARS);
        About {
            pipeline: None,
            title: word(&["modelspec.title", "ss_output_name", "title", "name"]),
            author: word(&["modelspec.author", "author"]),
            license: word(&["modelspec.license", "license"]),
            description: of(&["modelspec.description", "description", "ss_training_comment"], MAX_DESCRIPTION_CHARS),
            base: word(&["ss_sd_model_name", "modelspec.merged_from", "ss_base_model_version"]),
            resolution: word(&["modelspec.resolution", "ss_resolution"]),
            trigger: word(&["modelspec.trigger_phrase", "trigger_phrase", "activation text"]),
            tags: tags(metadata),
        }
    }
}

/// Folders of pictures, and how often each tag comes with them.
type Frequencies = BTreeMap<String, BTreeMap<String, Value>>;

/// One of kohya's data sets.
#[derive(serde::Deserialize)]
struct Dataset {
    #[serde(default)]
    tag_frequency: Frequencies,
}

/// The counts of all folders and data sets together.
fn tags(metadata: &BTreeMap<String, String>) -> Vec<(String, u64)> {
    let text = |key: &str| metadata.get(key).map_or("", String::as_str);
    let mut folders: Vec<Frequencies> = serde_json::from_str(text("ss_tag_frequency")).into_iter().collect();
    if folders.is_empty() {
        let datasets: Vec<Dataset> = serde_json::from_str(text("ss_datasets")).unwrap_or_default();
        folders.extend(datasets.into_iter().map(|dataset| dataset.tag_frequency));
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (tag, count) in folders.iter().flat_map(BTreeMap::values).flatten() {
        let sum = counts.entry(tag.trim()).or_default();
        *sum = sum.saturating_add(count.as_u64().unwrap_or(0));
    }
    let mut counts: Vec<_> = counts.into_iter().filter(|(tag, _)| !tag.is_empty()).collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.into_iter().take(MAX_TAGS).map(|(tag, n)| (short(tag, MAX_WORD_CHARS), n)).collect()
}

/// A text in one line, shortened.
pub(super) fn short(text: &str, most: usize) -> String {
    // Beyond this nothing is kept, whatever blanks there are.
    let start: String = text.chars().take(8 * most).collect();
    cut(&start.split_whitespace().collect::<Vec<_>>().join(" "), most)
}

/// A text of at most `most` characters; where some are left out, an ellipsis is the last.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_all_folders_are_counted_together() {
        let of = |key: &str, text: &str| tags(&BTreeMap::from([(key.to_owned(), text.to_owned())]));
        let counted = vec![("cat".to_owned(), 11), ("a \"dog\"".to_owned(), 3)];
        assert_eq!(of("ss_tag_frequency", r#"{"1\"_a":{"cat ":10,"a \"dog\"":3,"":9},"b":{"cat":1}}"#), counted);
        let sets =
            r#"[{"tag_frequency":{"a":{"cat":10}},"batch":1},{"tag_frequency":{"b":{"cat":1,"a \"dog\"":3}}},{}]"#;
        assert_eq!(of("ss_datasets", sets), counted);
        assert_eq!(of("ss_tag_frequency", r#"{"a":"#), vec![]);
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(short("  a\n\tb  ", 10), "a b");
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(short(&"é".repeat(500), 100).chars().count(), 101);
    }
}
