//! Placeholders: objects `{"_placeholder":true,"num":n}` that stand where attachment `n` of a packet belongs.

use std::iter;

/// Whether every placeholder in valid JSON stands for one of so many attachments. A client that gets another one gives up its
/// connection.
///
/// Readers differ about names that occur twice, so each value of such a name counts.
pub(crate) fn all_fit(json: &str, attachments: usize) -> bool {
    // One for each object or array around the place; the caller has limited the depth.
    let mut levels: Vec<Level> = Vec::new();
    let mut before = "";
    for token in tokens(json) {
        match token {
            ":" => {
                if let Some(level) = levels.last_mut() {
                    level.field = Field::of(before);
                }
            }
            "," => {}
            "}" | "]" => {
                if !levels.pop().is_none_or(|level| level.fits()) {
                    return false;
                }
            }
            value => {
                if let Some(level) = levels.last_mut() {
                    level.value(value, attachments);
                }
                if matches!(value, "{" | "[") {
                    levels.push(Level::default());
                }
            }
        }
        before = token;
    }
    true
}

/// An object, or an array, as far as it has been read.
#[derive(Default)]
struct Level {
    /// Of which field a value is expected.
    field: Option<Field>,
    is_placeholder: bool,
    /// Whether there is a number of an attachment, and no other one.
    number: Option<bool>,
}

enum Field {
    Placeholder,
    Num,
}

impl Field {
    /// The field of a name as it is written.
    fn of(name: &str) -> Option<Field> {
        if name.contains('\\') {
            let plain: String = serde_json::from_str(name).ok()?;
            return Field::named(&plain);
        }
        Field::named(name.trim_matches('"'))
    }

    fn named(name: &str) -> Option<Field> {
        match name {
            "_placeholder" => Some(Field::Placeholder),
            "num" => Some(Field::Num),
            _ => None,
        }
    }
}

impl Level {
    fn value(&mut self, value: &str, attachments: usize) {
        match self.field.take() {
            Some(Field::Placeholder) => self.is_placeholder |= value == "true",
            Some(Field::Num) => {
                let fits = value.parse().is_ok_and(|number: usize| number < attachments);
                self.number = Some(fits && self.number != Some(false));
            }
            None => {}
        }
    }

    fn fits(&self) -> bool {
        !self.is_placeholder || self.number == Some(true)
    }
}

/// The brackets, signs, strings, numbers and words of valid JSON, as they are written.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        let length = match rest.bytes().next()? {
            b'"' => string(rest),
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
            _ => rest.find(|next: char| ",]} \t\r\n".contains(next)).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(token)
    })
}

/// The length of the string at the beginning, with its quotes.
fn string(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn a_placeholder_stands_for_an_attachment_that_is_there() {
        for json in [
            "",
            "1,\"_placeholder\",[true,{}]",
            r#"{"_placeholder":true,"num":0}"#,
            r#"{"num" : 1 , "_placeholder" :true, "x":[{"num":9}]}"#,
            r#"{"_placeholder":false,"num":7},{"_placeholder":1},{"num":7},{"_placeholder":"true","num":"true"}"#,
            r#"{"a":"_placeholder","b":true,"num":7}"#,
            r#"{"a":{"_placeholder":"\"}{","b\\":[{"_placeholder":true,"num":1}]}}"#,
            r#"{"_placeholder":[true],"num":[9]},{"_placeholder":{"x":true},"num":9},["_placeholder",true,"num",9]"#,
        ] {
            assert!(all_fit(json, 2), "{json}");
        }
        for json in [
            r#"{"_placeholder":true,"num":2}"#,
            r#"{"_placeholder":true}"#,
            r#"{"num":-1,"_placeholder":true}"#,
            r#"{"num":0.5,"_placeholder":true}"#,
            r#"{"num":"0","_placeholder":true}"#,
            r#"{"num":null,"_placeholder":true}"#,
            r#"{"num":[0],"_placeholder":true}"#,
            r#"{"num":{"num":0},"_placeholder":true}"#,
            r#"{"num":99999999999999999999999,"_placeholder":true}"#,
            r#"1,[[{"a":[0,{"b":{"_placeholder":true,"num":2}}]}]]"#,
            r#"{"_\u0070laceholder":true,"n\u0075m":2}"#,
            r#"{"_placeholder":true,"x":{"_placeholder":true,"num":0}}"#,
        ] {
            assert!(!all_fit(json, 2), "{json}");
        }
        assert!(!all_fit(r#"{"_placeholder":true,"num":0}"#, 0));
    }

    #[test]
    fn whichever_of_two_values_a_reader_takes_it_fits() {
        for json in [
            r#"{"_placeholder":true,"num":0,"num":7}"#,
            r#"{"_placeholder":true,"num":7,"num":0}"#,
            r#"{"_placeholder":true,"_placeholder":false,"num":7}"#,
            r#"{"_placeholder":false,"num":7,"_placeholder":true}"#,
        ] {
            assert!(!all_fit(json, 2), "{json}");
        }
    }

    /// The same of values that have been read.
    fn fits(value: &Value, attachments: u64) -> bool {
        match value {
            Value::Array(items) => items.iter().all(|item| fits(item, attachments)),
            Value::Object(fields) => {
                let is_placeholder = fields.get("_placeholder") == Some(&Value::Bool(true));
                let number = fields.get("num").and_then(Value::as_u64);
                (!is_placeholder || number.is_some_and(|number| number < attachments))
                    && fields.values().all(|field| fits(field, attachments))
            }
            _ => true,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..4_u64).prop_map(Value::from),
            (-1.0..1.0).prop_map(Value::from),
            r#"[\\"{}a]{0,3}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let placeholder = (any::<bool>(), 0..4_u64).prop_map(|(mark, number)| {
                Value::Object([("_placeholder".into(), mark.into()), ("num".into(), number.into())].into_iter().collect())
            });
            let name = r#"_placeholder|num|a|[\\"]{1,2}"#;
            let fields = prop::collection::btree_map(name, inner.clone(), 0..4);
            prop_oneof![
                placeholder,
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_a_parser(value in value(), attachments in 0..4_usize) {
            let expected = fits(&value, attachments as u64);
            for json in [value.to_string(), format!("{value:#}")] {
                prop_assert_eq!(all_fit(&json, attachments), expected, "{}", json);
            }
        }

        #[test]
        fn nothing_panics(text in r#"([\[\]{}:, \\a0"]|_placeholder|num|true){0,30}"#) {
            let _ = all_fit(&text, 2);
        }
    }
}
