//! A request whose prompts choose, as one request for each picture.

use super::Request;
use crate::error::Result;
use crate::prompt::PromptSyntax;
use crate::prompt::wildcards::{Wildcards, expand, is_template};

/// Added to the seed for the negative prompt, so that the two prompts are decided apart.
const OF_NEGATIVE: u64 = 0x6e65_6761_7469_7665;

/// See [`Request::expanded`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpandedRequest {
    /// One for each picture, or the one request for all where nothing was to be decided.
    pub requests: Vec<Request>,
    /// What was left as text and may have been meant otherwise.
    pub notes: Vec<String>,
}

impl Request {
    /// Decides what the prompts leave open (`{a|b}`, `__name__`): of picture i with the seed plus i, each in a request of its
    /// own, which keeps the prompts as they were as its templates. With a variation the requests' seeds stay, and their
    /// variation seeds count on. A request that has a template was decided before, and stays what it is, as does one without
    /// anything to decide, and one in a syntax where braces are text. `seed` is used where the request has none.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for a name that is not there, in one line with those that are.
    pub fn expanded(&self, wildcards: Option<&Wildcards>, seed: u64) -> Result<ExpandedRequest> {
        let negative = self.negative_prompt.as_deref().unwrap_or_default();
        let is_decided = self.template.is_some() || self.negative_template.is_some();
        let has_choices = matches!(self.prompt_syntax.unwrap_or_default(), PromptSyntax::A1111 | PromptSyntax::Comfy);
        if is_decided || !has_choices || !(is_template(&self.prompt) || is_template(negative)) {
            return Ok(ExpandedRequest { requests: vec![self.clone()], notes: Vec::new() });
        }
        let first = self.seed.unwrap_or(seed);
        let counts_variations = self.variation_strength.is_some_and(|strength| strength != 0.0);
        let (mut requests, mut notes) = (Vec::new(), Vec::new());
        for idx in 0..self.count.unwrap_or(1).clamp(1, super::MAX_COUNT) as u64 {
            let seed = first.wrapping_add(idx);
            let prompt = expand(&self.prompt, wildcards, seed)?;
            let negative = expand(negative, wildcards, seed.wrapping_add(OF_NEGATIVE))?;
            notes.extend(prompt.notes.into_iter().chain(negative.notes));
            requests.push(Request {
                template: (prompt.text != self.prompt).then(|| self.prompt.clone()),
                negative_template: self.negative_prompt.clone().filter(|given| *given != negative.text),
                prompt: prompt.text,
                negative_prompt: self.negative_prompt.as_ref().map(|_| negative.text),
                seed: Some(if counts_variations { first } else { seed }),
                variation_seed: self.variation_seed.map(|seed| seed.wrapping_add(idx)),
                count: Some(1),
                ..self.clone()
            });
        }
        notes.sort();
        notes.dedup();
        // Nothing was decided, such as with braces that are text.
        if requests.iter().all(|request| request.template.is_none() && request.negative_template.is_none()) {
            requests = vec![Request { seed: Some(first), ..self.clone() }];
        }
        Ok(ExpandedRequest { requests, notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_its_own_prompt() {
        let asked =
            Request { prompt: "a {red|green|blue} fox".into(), count: Some(8), seed: Some(5), ..Request::default() };
        let requests = asked.expanded(None, 0).unwrap().requests;
        assert_eq!(requests.len(), 8);
        for (idx, request) in requests.iter().enumerate() {
            assert_eq!((request.seed, request.count), (Some(5 + idx as u64), Some(1)));
            assert_eq!(request.template.as_deref(), Some("a {red|green|blue} fox"));
            let alone = Request { seed: request.seed, count: None, ..asked.clone() }.expanded(None, 0).unwrap();
            assert_eq!(alone.requests[0].prompt, request.prompt, "a picture of the row is the one of its own seed");
            let again = request.expanded(None, 9).unwrap().requests;
            assert_eq!(again, std::slice::from_ref(request), "decided once");
        }
        assert!(requests.iter().any(|request| request.prompt != requests[0].prompt));
        let plain = Request { prompt: "a {fox}".into(), count: Some(3), ..Request::default() };
        let whole = plain.expanded(None, 7).unwrap().requests;
        assert_eq!(whole, [Request { seed: Some(7), ..plain }]);
    }
}
