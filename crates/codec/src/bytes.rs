//! The compact form of bytes: `"base64:AAEC…"`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Number of bytes from which on bytes are written in their compact form. Fewer are an array of numbers.
pub const COMPACT_FROM: usize = 32;

const MARK: &str = "base64:";

/// Appends the string, quotes included.
pub(crate) fn push(text: &mut Vec<u8>, bytes: &[u8]) {
    text.push(b'"');
    text.extend_from_slice(MARK.as_bytes());
    let start = text.len();
    text.resize(start + base64::encoded_len(bytes.len(), true).unwrap_or_default(), 0);
    let written = STANDARD.encode_slice(bytes, &mut text[start..]).unwrap_or_default();
    text.truncate(start + written);
    text.push(b'"');
}

/// Returns the bytes that the string encodes, if it is their compact form.
pub(crate) fn parse(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(MARK)?).ok()
}
