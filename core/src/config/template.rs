//! Templates of room names.

/// The name of a room with placeholders, for example `project:{project_id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Stands for itself.
    Text(Box<str>),
    /// `{name}` or `{name.name}`: a field of the message, or one within it.
    Field(Box<str>),
    /// `{channel}`: the channel's name.
    Channel,
    /// `{match}`: what stands for the first `*` of the channel's pattern.
    Match,
}

impl Template {
    /// Reads a template, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Template, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            pieces.push(Piece::text(before)?);
            let (name, after) = after.split_once('}').ok_or("has a brace that is not closed")?;
            pieces.push(match name {
                "channel" => Piece::Channel,
                "match" => Piece::Match,
                _ if name.contains('{') => return Err("has a brace within a placeholder"),
                _ if name.split('.').any(str::is_empty) => return Err("has a placeholder without a name"),
                _ => Piece::Field(name.into()),
            });
            rest = after;
        }
        pieces.push(Piece::text(rest)?);
        pieces.retain(|piece| *piece != Piece::Text("".into()));
        if pieces.is_empty() { Err("is empty") } else { Ok(Template(pieces)) }
    }

    /// What it consists of, in order.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether it needs nothing of a message.
    pub(crate) fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::Channel))
    }
}

impl Piece {
    fn text(text: &str) -> Result<Piece, &'static str> {
        if text.contains('}') { Err("has a brace that was not opened") } else { Ok(Piece::Text(text.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_with_placeholders() {
        let text = |text: &str| Piece::Text(text.into());
        let field = |name: &str| Piece::Field(name.into());
        for (template, expected) in [
            ("*", vec![text("*")]),
            ("project:{project_id}", vec![text("project:"), field("project_id")]),
            ("{data.task.id}{b}:c", vec![field("data.task.id"), field("b"), text(":c")]),
            ("{channel}/{match}", vec![Piece::Channel, text("/"), Piece::Match]),
        ] {
            assert_eq!(Template::parse(template), Ok(Template(expected)), "{template}");
        }
        for (template, expected) in [
            ("", "is empty"),
            ("a{b", "not closed"),
            ("a}b", "not opened"),
            ("{a}}", "not opened"),
            ("{{a}", "within"),
            ("{}", "without a name"),
            ("{a..b}", "without a name"),
            ("{.a}", "without a name"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
