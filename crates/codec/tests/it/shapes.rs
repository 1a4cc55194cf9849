//! Values in shapes that are not generated: keys, elements and enums of other kinds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use partitura_codec::{decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Side {
    Left,
    Right,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Cents(i64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Byte(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Nested(Option<Option<()>>),
    Single(f32),
    Bytes(Vec<u8>),
    Map(BTreeMap<char, Loose>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum TextFirst {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Sides { by_side: BTreeMap<Side, Vec<u8>>, single: f32, letter: char },
    Inner(BTreeMap<String, Tagged>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    Wide(BTreeMap<i128, f32>),
    Bytes(Vec<Byte>),
    Nothing,
}

fn comes_back<T: Serialize + DeserializeOwned + Debug>(value: T) {
    let json = encode(&value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    let back = decode::<T>(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"), "{json}");
}

fn is_refused<T: Serialize + DeserializeOwned + Debug>(value: T) {
    encode(&value).expect_err(&format!("{value:?}"));
}

#[test]
fn keys_of_every_kind_come_back() {
    comes_back(BTreeMap::from([(i128::MIN, 1), (i128::MAX, 2)]));
    comes_back(BTreeMap::from([('"', 1), ('\0', 2), ('\u{10ffff}', 3)]));
    comes_back(BTreeMap::from([(true, 1), (false, 2)]));
    comes_back(BTreeMap::from([(Side::Left, vec![1_u8; 50]), (Side::Right, vec![])]));
    comes_back(BTreeMap::from([(Cents(-7), 1)]));
    comes_back(BTreeMap::from([(Some(7), 1)]));
    is_refused(BTreeMap::from([(None::<u8>, 1)]));
    is_refused(BTreeMap::from([((), 1)]));
}

#[test]
fn elements_of_every_kind_come_back() {
    comes_back(vec![Byte(3); 50]);
    comes_back((0_u8..64).collect::<BTreeSet<u8>>());
    comes_back(VecDeque::from(vec![3_u8; 64]));
    comes_back(vec![3_u8; 64].into_boxed_slice());
    comes_back(vec![vec![7_u8; 60], vec![], vec![1]]);
    comes_back(vec![Ok(vec![7_u8; 60]), Err("x".to_owned())]);
    comes_back(vec![(); 3]);
    comes_back((std::time::Duration::MAX, 1..5, 1..=5, ["::1".parse::<std::net::IpAddr>().unwrap()]));
    comes_back([f64::MAX, f64::from_bits(1), 1e23, 9_007_199_254_740_993.0]);
    is_refused(vec![Some(()), None]);
    is_refused(Some(serde_json::Value::Null));
}

#[test]
fn enums_of_every_kind_come_back() {
    for single in [0.1, -0.0, 3.0, f32::MAX, f32::from_bits(1)] {
        comes_back(Loose::Single(single));
    }
    comes_back(Loose::Nested(None));
    comes_back(Loose::Map([('x', Loose::Single(0.3)), ('y', Loose::Bytes(vec![1; 40]))].into()));
    comes_back(TextFirst::Bytes(vec![1; 40]));
    comes_back(TextFirst::Text("base64:AAAA".into()));
    let by_side = BTreeMap::from([(Side::Left, vec![1; 40])]);
    comes_back(Tagged::Inner([("a".to_owned(), Tagged::Sides { by_side, single: 0.1, letter: '"' })].into()));
    comes_back(vec![Adjacent::Wide([(i128::MIN, 0.1)].into()), Adjacent::Bytes(vec![Byte(1); 40]), Adjacent::Nothing]);
    is_refused(Loose::Nested(Some(None)));
    is_refused(Loose::Nested(Some(Some(()))));
}
