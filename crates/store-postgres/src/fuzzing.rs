//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use crate::options::{Address, Options};

/// Texts that an operator hands in.
pub fn url(bytes: &[u8]) {
    let _ = Address::parse(&String::from_utf8_lossy(bytes), &mut Options::default()).map(|address| address.to_string());
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_url_makes_the_parser_panic() {
        partitura_fuzz::smoke("url", 10_000, super::url);
    }
}
