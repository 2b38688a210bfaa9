//! How deeply JSON is nested.

/// Whether arrays and objects lie more than `most` deep in a text, found without taking it apart: brackets in strings do not count. Of
/// a text that is no JSON, what it would come to.
///
/// ```
/// use roomcast_core::dialect::is_deeper_than;
///
/// assert!(!is_deeper_than(2, r#"{"a":["[[["]}"#));
/// assert!(is_deeper_than(2, "[[[]]]"));
/// ```
pub fn is_deeper_than(most: usize, text: &str) -> bool {
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_brackets_outside_of_strings_count() {
        for (depth, text) in [
            (0, ""),
            (0, "1"),
            (0, r#""[[[""#),
            (1, r#"[1,"\"[[",2]"#),
            (2, r#"["\\",{}]"#),
            (2, "[[],[],{}]"),
            (3, r#"{"a":{"b":[]}}"#),
            (2, "]]][["),
        ] {
            assert!(!is_deeper_than(depth, text), "{text}");
            assert!(depth == 0 || is_deeper_than(depth - 1, text), "{text}");
        }
    }
}
