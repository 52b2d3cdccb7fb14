//! Kubernetes expands `$(NAME)` in env values and commands; users mean what they write.
//!
//! The rules are those of `third_party/forked/golang/expansion` in Kubernetes: `$$` is a dollar,
//! `$(NAME)` a reference, and any other `$` stands for itself.

/// Returns `text` so that the kubelet's expansion gives `text` again.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        escaped.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '(')) {
            escaped.push('$');
        }
    }
    escaped
}

/// Undoes [`escape`].
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        plain.push(c);
        if c == '$' {
            rest.next_if_eq(&'$');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_escaped_and_nothing_else() {
        for (text, escaped) in [
            ("$HOME", "$HOME"),
            ("$(HOME)", "$$(HOME)"),
            ("$$", "$$$"),
            ("a$", "a$"),
            ("echo $((1+2)) $$ $", "echo $$((1+2)) $$$ $"),
            ("$$(X)", "$$$$(X)"),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    proptest! {
        #[test]
        fn it_comes_back(text in "[$(){}a]{0,24}") {
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }
}
