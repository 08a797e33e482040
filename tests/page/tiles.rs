//! What was measured on a GPU outlives the page, by the adapter's name.

use serde_json::json;

use crate::browser::Browser;

#[test]
fn measured_tiles_are_kept_by_adapter() {
    let browser = Browser::on_page();
    browser.run(
        "const { keep_tiles } = await import('./tiles.js');
        await keep_tiles('one', '{\"a\":1}'); await keep_tiles('two', '{}'); await keep_tiles('one', '{\"a\":2}');",
    );
    browser.reload();
    browser.wait_until_idle();
    let kept = browser.run(
        "const { read_tiles } = await import('./tiles.js');
        return [await read_tiles('one'), await read_tiles('two'), await read_tiles('three') ?? null];",
    );
    assert_eq!(kept, json!(["{\"a\":2}", "{}", null]));
}
