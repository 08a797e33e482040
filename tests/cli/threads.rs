//! How many threads draw changes nothing of a picture.

use super::desk::{APPLE, Desk};

/// Sizes whose rows leave one, few and none over when they are shared.
const SIZES: [[&str; 2]; 3] = [["96", "96"], ["136", "72"], ["64", "200"]];

#[test]
fn a_picture_is_the_same_from_any_number_of_threads() {
    let desk = Desk::new();
    for [width, height] in SIZES {
        let file = |threads: &str| {
            let size = ["--width", width, "--height", height, "--any-size"];
            let args = ["--prompt", APPLE, "--seed", "1", "--steps", "2", "--device", "cpu", "--threads", threads];
            desk.generate(&[&args[..], &size].concat()).succeeded();
            std::fs::read(desk.path("out.png")).unwrap()
        };
        let alone = file("1");
        for threads in ["2", "3"] {
            assert!(file(threads) == alone, "{width}x{height} from {threads} threads is another picture than from one");
        }
    }
}
