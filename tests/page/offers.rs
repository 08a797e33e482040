//! What models are offered and what is said of them before a download: purpose, licence, size, memory, and whether they fit, on the first
//! visit and under Models.

use std::time::Instant;

use serde_json::{Value, json};

use crate::browser::{Browser, has_no_gpu};

/// The offers of the first visit on an adapter, with what is said of each and whether that is a failure. The planner is the real one.
/// `caps` are changes to what this adapter can do.
fn offers(browser: &Browser, budget: &str, caps: &Value) -> Value {
    browser.run(&format!(
        "const {{ welcome_for }} = await import('./page/welcome.js');
        const {{ loaded_model }} = await import('./page/form.js');
        const {{ Darkroom }} = await import('./darkroom.js');
        const wasm = await import('./pkg/darkroom.js');
        await wasm.default();
        document.getElementById('budget').value = '{budget}';
        const darkroom = await Darkroom.open();
        const {{ caps }} = await darkroom.check();
        const plan = async (request) => wasm.plan(request, {{ ...caps, ...{caps} }});
        await welcome_for({{ ...loaded_model(), runner: 'gpu' }}, {{ versions: () => darkroom.versions(), plan }});
        darkroom.close();
        return [...document.querySelectorAll('.offer')].map((offer) => {{
            const memory = offer.querySelector('.memory');
            return [offer.querySelector('strong').textContent, memory.textContent, memory.hasAttribute('data-fails')];
        }});"
    ))
}

#[test]
fn the_first_visit_says_which_models_fit() {
    if has_no_gpu() {
        return;
    }
    let browser = Browser::on_page();
    let said = |budget: &str, caps: Value| offers(&browser, budget, &caps);
    let start = Instant::now();
    let all = said("", json!({}));
    eprintln!("nine plans in {:.1} s: {all}", start.elapsed().as_secs_f64());
    for offer in all.as_array().expect("offers") {
        let (memory, fails) = (offer[1].as_str().expect("a text"), &offer[2]);
        assert!(memory.starts_with("Fits this GPU if ") && memory.contains("GB is free"), "{memory}");
        assert!(memory.contains("with 8-bit") && memory.contains("with 4-bit weights"), "{memory}");
        assert_eq!(*fails, false);
    }
    // A limit that 16 bits do not keep for XL, and one that nothing keeps; what the weights are set to is said, too.
    for (budget, xl, v1_5) in [
        ("12", "Fits the limit of 12 GB: ", "Fits the limit of 12 GB: "),
        ("3", "-bit weights", "of GPU memory"),
        ("0.1", "Does not fit the limit of 100 MB: the least is ", "Does not fit the limit of 100 MB: the least is "),
    ] {
        let all = said(budget, json!({}));
        eprintln!("{budget} GB: {all}");
        for (offer, expected) in [(1, v1_5), (2, xl)] {
            let memory = all[offer][1].as_str().expect("a text");
            assert!(memory.contains(expected), "{budget} GB: {memory}");
            assert_eq!(all[offer][2], budget == "0.1", "{memory}");
        }
    }
    // An adapter that sees too little at once.
    let all = said("11", json!({ "max_binding_bytes": 1_000_000 }));
    eprintln!("small bindings: {all}");
    for offer in all.as_array().expect("offers") {
        assert!(offer[1].as_str().is_some_and(|memory| memory.starts_with("Does not fit this GPU: ")), "{all}");
        assert_eq!(offer[2], true);
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn model_cards_say_what_they_are_for_and_whether_they_fit() {
    if has_no_gpu() {
        return;
    }
    let browser = Browser::on_page();
    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    browser
        .wait_until("[...document.querySelectorAll('.model .memory')].every(({ textContent }) => textContent !== '')");
    let cards = browser.eval(
        "[...document.querySelectorAll('.model')].map((card) => ({
            model: card.dataset.model, badge: card.querySelector('.badge')?.textContent ?? null,
            purpose: card.querySelector('.purpose').textContent, size: card.querySelector('.state').textContent,
            memory: card.querySelector('.memory').textContent }))",
    );
    let cards = cards.as_array().expect("cards");
    for card in cards {
        let text = |name: &str| card[name].as_str().unwrap_or_default();
        let (purpose, licence) = text("purpose").split_once(" Licence: ").unwrap_or_default();
        assert!(purpose.len() > 10 && purpose.ends_with('.'), "{card}");
        let is_limited = licence == "Stability AI, limits commercial use.";
        let is_open = licence.starts_with("CreativeML OpenRAIL") && licence.ends_with("M.");
        assert!(if card["model"] == "turbo" { is_limited } else { is_open }, "{card}");
        assert!(text("size").ends_with(" GB download"), "{card}");
        assert!(text("memory").starts_with("Fits this GPU if ") && text("memory").contains(" GB is free"), "{card}");
    }
    let badges: Vec<_> = cards.iter().filter(|card| !card["badge"].is_null()).collect();
    assert_eq!(
        badges.iter().map(|card| (&card["model"], &card["badge"])).collect::<Vec<_>>(),
        [(&json!("turbo"), &json!("Recommended"))]
    );
    assert_eq!(cards[0]["model"], "turbo", "the recommended one comes first");
    // With another limit the same cards say another thing.
    browser.eval("document.getElementById('models').close()");
    browser.eval("(() => { document.getElementById('budget').value = '0.1'; document.getElementById('open-models').click(); })()");
    browser.wait_until("[...document.querySelectorAll('.model .memory')].every((memory) => memory.hasAttribute('data-fails') && memory.textContent.startsWith('Does not fit the limit of 100 MB: '))");
    // What is not known is not taken for a failure of the GPU.
    let said = browser.run(
        "const { find_needs } = await import('./page/plans.js');
        const { Darkroom } = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const [version] = await darkroom.versions();
        darkroom.close();
        document.getElementById('budget').value = '5';
        return (await find_needs(darkroom, version)).said;",
    );
    assert!(said.as_str().is_some_and(|said| said.starts_with("How much memory it takes is not known: ")), "{said}");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
