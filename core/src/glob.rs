//! Patterns of channels, as Redis reads them: `*` is any bytes, `?` one, `[a-c]` and `[^x]` one of a set, `\` takes away the
//! meaning of what follows it.

use core::ops::Range;

/// Whether a name fits. The work is bounded by the product of both lengths.
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    compare(pattern, name).is_some()
}

/// Where in a name that fits stands what the first `*` of the pattern stands for; as short as possible where there are several.
/// Nothing where the name does not fit, or the pattern has no `*`.
pub(crate) fn first_star(pattern: &[u8], name: &[u8]) -> Option<Range<usize>> {
    compare(pattern, name)?
}

/// Nothing where the name does not fit; else what the first `*` stands for, if there is one.
fn compare(pattern: &[u8], name: &[u8]) -> Option<Option<Range<usize>>> {
    // What the last `*` stands for so far, and the pattern behind it.
    let mut last: Option<(&[u8], Range<usize>)> = None;
    let (mut first, mut rest, mut at) = (None, pattern, 0);
    loop {
        if let [b'*', behind @ ..] = rest {
            first = first.or(last.map(|(_, star)| star));
            (last, rest) = (Some((behind, at..at)), behind);
            continue;
        }
        match (next(rest), name.get(at)) {
            (None, None) => return Some(first.or(last.map(|(_, star)| star))),
            (Some((one, behind)), Some(&byte)) if is_one(one, byte) => (rest, at) = (behind, at + 1),
            // The last `*` stands for a byte more.
            _ => {
                let (behind, star) = last.as_mut()?;
                star.end += 1;
                if star.end > name.len() {
                    return None;
                }
                (rest, at) = (*behind, star.end);
            }
        }
    }
}

/// What stands for one byte at the beginning of a pattern, and what is behind it.
fn next(pattern: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = match pattern {
        [] => return None,
        [b'\\', _, ..] => 2,
        [b'[', set @ ..] => {
            let mut at = 0;
            // A set without end goes on to the end of the pattern.
            while let Some(&byte) = set.get(at).filter(|&&byte| byte != b']') {
                at += if byte == b'\\' { 2 } else { 1 };
            }
            (at + 2).min(pattern.len())
        }
        _ => 1,
    };
    pattern.split_at_checked(length)
}

fn is_one(one: &[u8], byte: u8) -> bool {
    match one {
        [b'?'] => true,
        [b'\\', literal] => byte == *literal,
        [b'[', b'^', set @ ..] => !is_in(set, byte),
        [b'[', set @ ..] => is_in(set, byte),
        [literal] => byte == *literal,
        _ => false,
    }
}

fn is_in(mut set: &[u8], byte: u8) -> bool {
    loop {
        let (found, rest) = match set {
            [] | [b']', ..] => return false,
            [b'\\', one, rest @ ..] => (byte == *one, rest),
            [from, b'-', to, rest @ ..] => ((*from.min(to)..=*from.max(to)).contains(&byte), rest),
            [one, rest @ ..] => (byte == *one, rest),
        };
        if found {
            return true;
        }
        set = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
        first_star(pattern.as_bytes(), name.as_bytes()).map(|range| name.get(range).unwrap())
    }

    #[test]
    fn a_star_stands_for_what_redis_says() {
        for (pattern, name, expected) in [
            ("*", "", Some("")),
            ("news:*", "news:x", Some("x")),
            ("news:*", "new:x", None),
            ("news", "news", None),
            ("a*b", "a-b-b", Some("-b-")),
            ("a*b", "a-b-c", None),
            ("*:*", "a:b:c", Some("a")),
            ("a*b*c*d", "a1b2b3c4d", Some("1")),
            ("**x", "abx", Some("")),
            ("?[b-d]*", "acrest", Some("rest")),
            ("a[^b]?*z", "axy-z", Some("-")),
            ("a[^b]?*z", "abyz", None),
            (r"a\**", "a*q", Some("q")),
            (r"a\**", "abq", None),
            ("a[z-b]*", "acz", Some("z")),
            (r"[\]x]*", "]1", Some("1")),
            ("a[]*", "ax", None),
            ("*[b", "ab", Some("a")),
            (r"*\", r"a\", Some("a")),
        ] {
            assert_eq!(star(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_without_a_star_fits_too() {
        assert!(fits(b"news", b"news") && fits(b"n[aeiou]ws", b"news") && fits(b"", b""));
        assert!(!fits(b"news", b"new") && !fits(b"news", b"newsy"));
    }

    #[test]
    fn the_work_is_bounded() {
        let (pattern, name) = ("*a".repeat(200), "a".repeat(20_000) + "b");
        assert_eq!(star(&pattern, &name), None);
    }
}
