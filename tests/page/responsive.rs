//! The page's own thread stays free while a picture develops.

use crate::browser::{Browser, serve_all, www};

/// A timer on the main thread must not be later than this, beyond what the machine itself is late.
const MAX_LATE_MS: f64 = 100.0;
/// The machine may be busy with other things, which makes timers late that the page has nothing to do with. How late the
/// machine is, a timer in a worker of its own tells; and what blocks the page does so every time, so the best of a few runs
/// is the page's own.
const N_RUNS: usize = 4;

/// A worker that does nothing but look at the clock, and tells how late it was at worst.
const CLOCK: &str = "let last = performance.now(), late = 0;
setInterval(() => {
  const now = performance.now();
  late = Math.max(late, now - last - 10);
  last = now;
}, 10);
onmessage = () => postMessage(late);
";

#[test]
fn a_timer_is_never_late_while_a_picture_develops() {
    let clock = tempfile::tempdir().expect("a folder");
    std::fs::write(clock.path().join("clock.js"), CLOCK).expect("a file");
    let browser = Browser::start();
    browser.open_page(&serve_all(vec![www(), clock.path().to_path_buf()]));
    browser.draw("a red apple on a blue background", 1);
    let mut best = f64::INFINITY;
    for run in 0..N_RUNS {
        let late = browser.run(
            "const n = document.querySelectorAll('.card').length;
            document.getElementById('steps').value = '12';
            document.getElementById('draw').click();
            const worker = new Worker('clock.js');
            let last = performance.now(), late = 0;
            while (document.querySelectorAll('.card').length === n) {
                await new Promise((resolve) => setTimeout(resolve, 10));
                const now = performance.now();
                late = Math.max(late, now - last - 10);
                last = now;
            }
            const machine = await new Promise((resolve) => {
                worker.onmessage = ({ data }) => resolve(data);
                worker.postMessage('');
            });
            worker.terminate();
            return [late, machine];",
        );
        let [late, machine] = [0, 1].map(|i| late[i].as_f64().expect("a number"));
        eprintln!("run {}: a timer of 10 ms was at most {late:.1} ms late, in an idle worker {machine:.1} ms", run + 1);
        browser.wait_until_idle();
        best = best.min(late - machine);
        if best <= MAX_LATE_MS {
            return;
        }
    }
    panic!("a timer was {best:.0} ms later than the machine in the best of {N_RUNS} runs");
}
