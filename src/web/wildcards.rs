//! Prompts that choose, for the page: what each picture of a request is drawn from. Lists are the page's, by name.

use std::collections::BTreeMap;

use wasm_bindgen::prelude::*;

use super::failure::refuse;
use super::studio::{random_seed, read_request};
use super::types::{ChosenPrompts, PictureChoice};
use crate::prompt::wildcards::{NO_LISTS, Wildcards};

/// Decides what the prompts of a request leave open (`{a|b}`, and `__name__` of `lists`), for each picture by its own seed.
/// Where nothing is open there is one choice, for all pictures.
///
/// # Errors
/// A JavaScript `Error` that names the lists that there are, where a prompt names another.
#[wasm_bindgen(unchecked_return_type = "ChosenPrompts")]
pub fn choose_prompts(
    #[wasm_bindgen(unchecked_param_type = "DrawRequest")] request: JsValue,
    #[wasm_bindgen(unchecked_param_type = "Record<string, string>")] lists: JsValue,
) -> Result<JsValue, JsValue> {
    let mut request = read_request(request)?;
    request.seed.get_or_insert_with(random_seed);
    let lists: BTreeMap<String, String> =
        serde_wasm_bindgen::from_value(lists).map_err(|e| refuse(&format!("the wildcards cannot be read: {e}")))?;
    let mut wildcards = Wildcards::new();
    lists.iter().for_each(|(name, text)| wildcards.add(name, text));
    let wildcards = (!lists.is_empty()).then_some(&wildcards);
    let expanded = request.expanded(wildcards, 0)?;
    let choice = |chosen: crate::request::Request| PictureChoice {
        prompt: chosen.prompt,
        negative_prompt: chosen.negative_prompt,
        template: chosen.template,
        negative_template: chosen.negative_template,
        seed: chosen.seed.unwrap_or_default().to_string(),
        variation_seed: chosen.variation_seed.map(|seed| seed.to_string()),
        count: chosen.count.unwrap_or(1),
    };
    // The page has no folder and no command line.
    let notes = expanded
        .notes
        .into_iter()
        .map(|note| note.replace(NO_LISTS, "there is no list of that name, which is a text file dropped here"));
    let chosen =
        ChosenPrompts { pictures: expanded.requests.into_iter().map(choice).collect(), notes: notes.collect() };
    Ok(serde_wasm_bindgen::to_value(&chosen)?)
}
