//! The page's own thread stays free while a picture develops.

use crate::browser::{Browser, page_url};

/// A timer on the main thread must not be later than this.
const MAX_LATE_MS: f64 = 100.0;
/// The machine may be busy with other things, which makes timers late that the page has nothing to do with. What blocks
/// the page does so every time, so the best of a few runs is the page's own.
const N_RUNS: usize = 4;

#[test]
fn a_timer_is_never_late_while_a_picture_develops() {
    let browser = Browser::start();
    browser.open_page(&page_url());
    browser.draw("a red apple on a blue background", 1);
    let mut best = f64::INFINITY;
    for run in 0..N_RUNS {
        let late = browser.run(
            "const n = document.querySelectorAll('.card').length;
            document.getElementById('steps').value = '12';
            document.getElementById('draw').click();
            let last = performance.now(), late = 0;
            while (document.querySelectorAll('.card').length === n) {
                await new Promise((resolve) => setTimeout(resolve, 10));
                const now = performance.now();
                late = Math.max(late, now - last - 10);
                last = now;
            }
            return late;",
        );
        let late = late.as_f64().expect("a number");
        eprintln!("run {}: a timer of 10 ms was at most {late:.1} ms late", run + 1);
        browser.wait_until_idle();
        best = best.min(late);
        if best <= MAX_LATE_MS {
            return;
        }
    }
    panic!("a timer was {best:.0} ms late in the best of {N_RUNS} runs");
}
