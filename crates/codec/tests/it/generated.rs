//! Any value decodes to itself, or is refused.

use partitura_codec::{decode, encode};
use proptest::collection::{btree_map, hash_map, hash_set, vec};
use proptest::prelude::*;

use crate::values::{Adjacent, Blob, External, Flat, Internal, Odd, Plain, Unit, Untagged, Value};

fn plain() -> impl Strategy<Value = Plain> {
    let bytes = || prop_oneof![vec(any::<u8>(), 0..5), vec(any::<u8>(), 28..80)];
    let scalars = (".{0,8}", any::<u64>().prop_map(f64::from_bits), any::<u32>().prop_map(f32::from_bits));
    let numbers = (any::<i64>(), any::<u64>(), any::<char>(), any::<Option<bool>>());
    (scalars, numbers, btree_map(".{0,3}", any::<i8>(), 0..3), bytes(), bytes().prop_map(Blob), any::<[u8; 32]>())
        .prop_map(|((text, double, single), (signed, unsigned, letter, maybe), named, octets, blob, digest)| {
            // A third of all floats is not finite or close to it. Most values should be encodable.
            let double = if double.is_finite() || signed % 8 == 0 { double } else { 0.01 * 1.19 };
            let single = if single.is_finite() || signed % 8 == 0 { single } else { -0.0 };
            Plain { text, double, single, signed, unsigned, letter, maybe, named, octets, blob, digest }
        })
}

fn odd() -> impl Strategy<Value = Odd> {
    let numbered = hash_map(any::<i32>(), ".{0,3}", 0..4);
    (any::<u128>(), any::<i128>(), numbered, btree_map(any::<bool>(), any::<u8>(), 0..3))
        .prop_map(|(wide, low, numbered, flags)| Odd { wide, low, numbered, flags })
}

fn value() -> impl Strategy<Value = Value> {
    let untagged = prop_oneof![
        any::<bool>().prop_map(Untagged::Flag),
        any::<u64>().prop_map(Untagged::Number),
        ".{0,5}".prop_map(Untagged::Text),
        plain().prop_map(Untagged::One),
        odd().prop_map(Untagged::Odd),
    ];
    let flat = (any::<u8>(), plain(), hash_map("[a-z]{1,5}", any::<i32>(), 0..3));
    let leaf = prop_oneof![
        plain().prop_map(Value::Plain),
        odd().prop_map(Value::Odd),
        Just(Value::Unit(Unit)),
        any::<Option<Option<u8>>>().prop_map(Value::Maybe),
        any::<Option<()>>().prop_map(Value::Done),
        any::<bool>().prop_map(|some| Value::Wrapped(some.then_some(Unit))),
        untagged.prop_map(Value::Untagged),
        flat.prop_map(|(id, rest, more)| Value::Flat(Flat { id, rest, more })),
        hash_set(any::<u32>(), 0..4).prop_map(Value::Set),
        vec(any::<Option<u8>>(), 0..70).prop_map(Value::Options),
        vec(any::<u8>().prop_map(Some), 30..70).prop_map(Value::Options),
        Just(Value::External(External::Nothing)),
        plain().prop_map(|plain| Value::External(External::One(plain))),
        (any::<u32>(), odd()).prop_map(|(bits, odd)| Value::External(External::Two(f32::from_bits(bits), odd))),
        any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Value::External(External::Octets(a, b, c))),
        (plain(), odd()).prop_map(|(plain, odd)| Value::External(External::Named { plain, odd })),
        Just(Value::Internal(Internal::Nothing)),
        plain().prop_map(|plain| Value::Internal(Internal::One(plain))),
        odd().prop_map(|odd| Value::Internal(Internal::Odd(odd))),
        Just(Value::Adjacent(Adjacent::Nothing)),
        plain().prop_map(|plain| Value::Adjacent(Adjacent::One(plain))),
        (any::<u64>(), odd()).prop_map(|(bits, odd)| Value::Adjacent(Adjacent::Two(f64::from_bits(bits), odd))),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Many),
            (inner.clone(), inner.clone()).prop_map(|pair| Value::Pair(Box::new(pair))),
            inner.clone().prop_map(|inner| Value::External(External::Boxed(Box::new(inner)))),
            (plain(), inner.clone())
                .prop_map(|(plain, inner)| Value::Internal(Internal::Named { plain, inner: Box::new(inner) })),
            (plain(), inner)
                .prop_map(|(plain, inner)| Value::Adjacent(Adjacent::Named { plain, inner: Box::new(inner) })),
        ]
    })
}

/// Whether both are the same, the sign of zero included, which `PartialEq` of floats ignores.
fn is_same(left: &Value, right: &Value) -> bool {
    left == right && format!("{left:?}").len() == format!("{right:?}").len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_comes_back_or_is_refused(value in value()) {
        match encode(&value) {
            Ok(json) => {
                let back = decode::<Value>(&json);
                prop_assert!(back.as_ref().is_ok_and(|back| is_same(back, &value)), "{value:?}\n{json}\n{back:?}");
            }
            Err(error) => prop_assert!(may_be_refused(&value), "{value:?}\n{error}"),
        }
    }

    #[test]
    fn what_is_within_reach_of_json_is_never_refused(plain in plain(), odd in odd()) {
        prop_assume!(plain.double.is_finite() && plain.single.is_finite());
        let values = [
            Value::Plain(plain.clone()),
            Value::Odd(odd.clone()),
            Value::External(External::Named { plain: plain.clone(), odd: odd.clone() }),
            Value::Internal(Internal::One(plain.clone())),
            Value::Adjacent(Adjacent::One(plain.clone())),
            Value::Untagged(Untagged::One(plain)),
        ];
        for value in values {
            let back = encode(&value).map(|json| decode::<Value>(&json).expect("it can be read"));
            prop_assert!(back.as_ref().is_ok_and(|back| is_same(back, &value)), "{value:?}\n{back:?}");
        }
    }
}

/// Whether the value contains something that JSON, or serde's buffering, does not carry.
fn may_be_refused(value: &Value) -> bool {
    let text = format!("{value:?}");
    let within = |what: &[&str]| what.iter().any(|what| text.contains(what));
    within(&["NaN", "inf", "Some(None)", "Some(())", "Some(Unit)"])
        || within(&["wide:"]) && within(&["Internal(", "Untagged(", "Adjacent("])
        // A flattened map holds what is named like another field.
        || within(&["Flat {"])
}
