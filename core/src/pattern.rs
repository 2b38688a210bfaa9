//! Room patterns: `*` stands for any characters, everything else for itself.

use core::fmt;

use serde::Deserialize;

/// A pattern for room names, for example `project:*`.
///
/// ```
/// use roomcast_core::pattern::Pattern;
///
/// assert!(Pattern::new("project:*").matches("project:7"));
/// assert!(!Pattern::new("project:*").matches("task:7"));
/// assert!(Pattern::new("team:*:chat").matches("team:a:b:chat"));
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The pattern with this text. Every text is a pattern.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.into())
    }

    /// Whether the whole name fits. The work is bounded by the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_anything_and_the_rest_itself() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*:x", "a:x:x", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} against {name}");
        }
    }
}
