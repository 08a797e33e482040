//! Random numbers from the system, for seeds and names that nobody can guess.

/// A random number.
///
/// # Panics
/// Where the system has no source of random numbers, as at a very early start of a machine; nothing works then.
pub fn number() -> u64 {
    match getrandom::u64() {
        Ok(number) => number,
        Err(error) => panic!("the system gives no random numbers: {error}"),
    }
}
