//! Values that were seen to be lost or changed, one by one.

use std::collections::{BTreeMap, HashMap};

use partitura_codec::{COMPACT_FROM, decode, encode, encode_unproven, to_raw};
use serde::{Deserialize, Serialize};

use crate::values::{Blob, Unit};

fn there_and_back<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    decode(&encode(value).unwrap()).unwrap()
}

fn refused<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> (String, String) {
    let error = encode(value).expect_err("refused");
    (error.path().to_owned(), error.problem().to_owned())
}

#[test]
fn prices_with_tax_keep_every_bit() {
    for cents in 1..20_000_u32 {
        let price = f64::from(cents) / 100.0 * 1.19;
        assert_eq!(there_and_back(&price).to_bits(), price.to_bits(), "{price:?}");
    }
    assert_eq!(there_and_back(&-0.0_f64).to_bits(), (-0.0_f64).to_bits());
    assert_eq!(there_and_back(&-0.0_f32).to_bits(), (-0.0_f32).to_bits());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Reading {
    Single { value: f32 },
    Wide { value: u128 },
    ByNumber { prices: HashMap<u32, f64> },
    Bytes { blob: Blob },
    Octets { octets: Vec<u8> },
}

#[test]
fn a_single_that_would_be_rounded_twice_keeps_every_bit() {
    let value = 7.038531e-26_f32;
    assert_ne!("7.038531e-26".parse::<f64>().unwrap() as f32, value, "its shortest digits are read as its neighbour");
    assert_eq!(there_and_back(&value).to_bits(), value.to_bits());
    assert_eq!(there_and_back(&Reading::Single { value }), Reading::Single { value });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    price: Option<f64>,
    note: Option<Option<String>>,
    by_name: HashMap<String, (u8, f32)>,
}

fn line() -> Line {
    Line { price: Some(1.0), note: None, by_name: HashMap::new() }
}

#[test]
fn what_is_no_number_is_refused_by_the_name_of_its_field() {
    let order = Order { lines: vec![line(), Line { price: Some(f64::NAN), ..line() }] };
    assert_eq!(refused(&order), ("lines[1].price".into(), "JSON has no number NaN".into()));
    let by_name = [("a".to_owned(), (1, f32::NEG_INFINITY))].into();
    let order = Order { lines: vec![Line { by_name, ..line() }] };
    assert_eq!(refused(&order), ("lines[0].by_name.a[1]".into(), "JSON has no number -inf".into()));
    let unproven = encode_unproven(&Order { lines: vec![Line { price: Some(f64::NAN), ..line() }] });
    assert_eq!(unproven.unwrap_err().to_string(), "field `lines[0].price`: JSON has no number NaN");
}

#[test]
fn some_of_nothing_is_refused_by_the_name_of_its_field() {
    let order = Order { lines: vec![Line { note: Some(None), ..line() }] };
    let (path, problem) = refused(&order);
    assert_eq!(path, "lines[0].note");
    assert!(problem.contains("read as `None`"), "{problem}");
    refused(&Some(()));
    refused(&Some(Unit));
    refused(&Some(Some(None::<u8>)));
    assert!(encode_unproven(&Some(())).is_err());
    assert_eq!(there_and_back(&None::<Option<u8>>), None);
    assert_eq!(there_and_back(&Some(Some(3))), Some(Some(3)));
}

/// As `serde_with::rust::double_option`: absent, null or a value.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Option<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().unwrap_or(&None).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u8>>, D::Error> {
        Deserialize::deserialize(deserializer).map(Some)
    }
}

#[test]
fn some_of_nothing_is_taken_where_the_type_can_tell() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Patch {
        #[serde(default, with = "double_option", skip_serializing_if = "Option::is_none")]
        set: Option<Option<u8>>,
    }
    for set in [None, Some(None), Some(Some(1))] {
        assert_eq!(there_and_back(&Patch { set }), Patch { set });
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

fn chain(length: usize) -> Chain {
    (0..length).fold(Chain::End, |chain, _| Chain::Next(Box::new(chain)))
}

#[test]
fn what_is_nested_too_deeply_to_be_read_is_refused() {
    assert_eq!(there_and_back(&chain(127)), chain(127));
    let (path, problem) = refused(&chain(128));
    assert!(path.starts_with("Next.Next"), "{path}");
    assert!(problem.contains("127 levels"), "{problem}");
    let sequences = |depth: usize| (1..depth).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
    assert_eq!(there_and_back(&sequences(127)), sequences(127));
    refused(&sequences(128));
}

#[test]
fn wide_numbers_and_number_keys_come_back_unless_serde_cannot_read_them() {
    assert_eq!(there_and_back(&u128::MAX), u128::MAX);
    assert_eq!(there_and_back(&i128::MIN), i128::MIN);
    let prices = HashMap::from([(7, 0.5), (9, -0.0)]);
    assert_eq!(there_and_back(&prices), prices);
    let (path, problem) = refused(&Reading::Wide { value: 7 });
    assert_eq!(path, "value");
    assert!(problem.contains("128-bit"), "{problem}");
    let (path, problem) = refused(&Reading::ByNumber { prices });
    assert_eq!(path, "prices");
    assert!(problem.contains("keys that are not text"), "{problem}");
}

#[test]
fn bytes_are_compact() {
    let bytes: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    for json in [encode(&bytes).unwrap(), encode(&Blob(bytes.clone())).unwrap()] {
        assert!(json.len() < 540_000, "{}", json.len());
        assert_eq!(decode::<Vec<u8>>(&json).unwrap(), bytes);
        assert_eq!(decode::<Blob>(&json).unwrap().0, bytes);
        assert_eq!(decode::<Vec<u32>>(&json).unwrap().len(), bytes.len());
    }
    let few = vec![7_u8; COMPACT_FROM - 1];
    assert!(encode(&few).unwrap().starts_with('['));
    assert!(encode(&vec![7_u8; COMPACT_FROM]).unwrap().starts_with("\"base64:"));
}

#[test]
fn bytes_that_serde_buffers_are_numbers() {
    let octets: Vec<u8> = (0..100).collect();
    let value = Reading::Octets { octets: octets.clone() };
    assert_eq!(there_and_back(&value), value);
    let value = Reading::Bytes { blob: Blob(octets.clone()) };
    assert_eq!(there_and_back(&value), value);
    // Bytes that are the compact form of others.
    let value = Blob(b"base64:AAAA".repeat(4));
    assert_eq!(there_and_back(&value), value);
    let unproven = encode_unproven(&octets).unwrap();
    assert_eq!(unproven, serde_json::to_string(&octets).unwrap());
}

#[test]
fn a_sequence_that_begins_like_bytes_is_none() {
    let mixed = (1_u8, 2_u8, "three".to_owned(), 4_u8);
    assert_eq!(encode(&mixed).unwrap(), r#"[1,2,"three",4]"#);
    assert_eq!(there_and_back(&mixed), mixed);
    let nested: Vec<Vec<u8>> = vec![vec![1], vec![], vec![2, 3]];
    assert_eq!(encode(&nested).unwrap(), "[[1],[],[2,3]]");
}

#[test]
fn text_that_looks_like_bytes_stays_text() {
    let text = "base64:AAAA".to_owned();
    assert_eq!(there_and_back(&text), text);
    assert!(decode::<Vec<u8>>("\"base64:!\"").is_err());
    assert!(decode::<Vec<u8>>("\"AAAA\"").is_err());
}

#[test]
fn json_within_json_is_kept_as_it_is() {
    let raw = to_raw(r#"{"a": [1,  2]}"#);
    assert_eq!(raw.get(), r#"{"a": [1,  2]}"#);
    let both = (raw.clone(), 3);
    assert_eq!(encode(&both).unwrap(), r#"[{"a": [1,  2]},3]"#);
    let back: (Box<serde_json::value::RawValue>, u8) = decode(&encode(&both).unwrap()).unwrap();
    assert_eq!(back.0.get(), raw.get());
}

#[test]
fn a_key_that_is_no_text_is_refused_with_what_it_is() {
    let by_pair = HashMap::from([((1, 2), 3)]);
    let error = encode_unproven(&by_pair).unwrap_err();
    assert!(error.problem().contains("not a tuple"), "{error}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Basket {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Delivery {
    Sent {
        #[serde(skip_serializing_if = "String::is_empty")]
        by: String,
    },
}

#[test]
fn a_field_that_is_skipped_and_then_missed_is_refused_by_its_name() {
    let full = Basket { items: vec!["nuts".into()], note: None };
    assert_eq!(there_and_back(&full), full);
    let (path, problem) = refused(&vec![full, Basket { items: Vec::new(), note: None }]);
    assert_eq!(path, "[1].items");
    assert!(problem.contains("#[serde(default)]"), "{problem}");
    assert_eq!(refused(&Delivery::Sent { by: String::new() }).0, "Sent.by");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Notice {
    Custom(BTreeMap<String, String>),
    Typed(Typed),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

#[test]
fn a_field_whose_name_is_there_twice_is_refused_by_it() {
    let custom =
        |key: &str| Notice::Custom([("a".to_owned(), "b".to_owned()), (key.to_owned(), "c".to_owned())].into());
    assert_eq!(there_and_back(&custom("kind")), custom("kind"));
    for notice in [custom("type"), Notice::Typed(Typed { kind: "k".into() })] {
        let (path, problem) = refused(&notice);
        assert_eq!(path, "type");
        assert!(problem.contains("twice"), "{problem}");
    }
}
